"""Keep answers in the memory of one worker, bounded by bytes: what is asked for often stays.

Strategy. An LRU alone is emptied by a scan: a crawler that asks for each page once pushes out what everybody asks for. So
a new answer first comes into a small window, and from there it takes the place of the least recently used one only if it
was asked for more often (TinyLFU: Einziger, Friedman, Manes, 2017). How often is known from a sketch: a few bytes for each
key, also for keys whose answers are not stored, and halved from time to time, so that yesterday's favourites leave.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator

from propylon.proxy.cache.deletion import Deletion, digest_of, path_mark, target_mark
from propylon.proxy.cache.key import Key, Target, target_of
from propylon.proxy.cache.stored import Stored

__all__ = ["MemoryAnswers", "Sketch"]

_WINDOW = 0.05  # of the bytes
_MOST_VARIANTS = 16  # of one key: a Vary on User-Agent must not become a list of a million
_MARKS = 1024  # paths of which is remembered when something about them was deleted
_SLOTS = 1 << 16
_MOST = 15
_HALVED = bytes(count >> 1 for count in range(256))


class Sketch:
    """Counts how often keys were asked for, approximately, in constant memory (a count-min sketch)."""

    __slots__ = ("_added", "_left", "_right")

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._left = bytearray(_SLOTS)
        self._right = bytearray(_SLOTS)
        self._added = 0

    def add(self, key: Hashable) -> None:
        """Count a key."""
        number = hash(key)  # of bytes, with a secret of the process: nobody can choose collisions
        left, right = number & (_SLOTS - 1), (number >> 20) & (_SLOTS - 1)
        if self._left[left] < _MOST:
            self._left[left] += 1
        if self._right[right] < _MOST:
            self._right[right] += 1
        self._added += 1
        if self._added >= 10 * _SLOTS:
            self._added >>= 1
            self._left = bytearray(self._left.translate(_HALVED))
            self._right = bytearray(self._right.translate(_HALVED))

    def count(self, key: Hashable) -> int:
        """Return how often a key was asked for lately: at least so often, and 15 at most."""
        number = hash(key)
        return min(self._left[number & (_SLOTS - 1)], self._right[(number >> 20) & (_SLOTS - 1)])


class _Shelf:
    """The answers under one key, the newest first."""

    __slots__ = ("answers", "size")

    def __init__(self) -> None:
        self.answers: tuple[Stored, ...] = ()
        self.size = 0


class MemoryAnswers:
    """The answers that one worker keeps."""

    def __init__(self, capacity: int) -> None:
        """Keep so many bytes at the most."""
        self.capacity = capacity
        self._window: OrderedDict[Key, _Shelf] = OrderedDict()
        self._main: OrderedDict[Key, _Shelf] = OrderedDict()
        self._sketch = Sketch()
        self._window_size = self._main_size = 0
        # What was fetched before something was deleted must not be stored after it, so each deletion leaves a mark.
        self._deletions = self._base = 0
        self._marks: OrderedDict[bytes, int] = OrderedDict()
        self._by_path: dict[bytes, set[Key]] = {}
        self._by_tag: dict[bytes, set[Key]] = {}
        self._by_route: dict[bytes, set[Key]] = {}

    def __len__(self) -> int:
        """Return how many answers are kept, variants included."""
        return sum(len(shelf.answers) for part in self._parts for shelf in part.values())

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._window_size + self._main_size

    @property
    def _parts(self) -> tuple[OrderedDict[Key, _Shelf], OrderedDict[Key, _Shelf]]:
        return self._window, self._main

    def resize(self, capacity: int) -> None:
        """Keep so many bytes at the most from now on."""
        if capacity != self.capacity:
            self.capacity = capacity
            self._make_room()

    def get(self, key: Key) -> tuple[Stored, ...]:
        """Return the answers under a key, the newest first, and count that it was asked for."""
        self._sketch.add(key)
        shelf = self._main.get(key)
        if shelf is not None:
            self._main.move_to_end(key)
            return shelf.answers
        shelf = self._window.get(key)
        if shelf is None:
            return ()
        self._window.move_to_end(key)
        return shelf.answers

    def generation(self, key: Key) -> int:
        """Return a number that changes when answers of the key's path are deleted."""
        return self._marks.get(path_mark(key[3]), self._base)

    def put(self, key: Key, stored: Stored, generation: int) -> None:
        """Keep an answer in place of the ones that the same requests would get, unless its generation is over."""
        if generation != self.generation(key):
            return
        shelf = self._taken(key) or _Shelf()
        headers = stored.vary
        others = [one for one in shelf.answers if one.vary != headers]
        self._shelve(key, shelf, (stored, *others[: _MOST_VARIANTS - 1]))

    def drop(self, key: Key, stored: Stored) -> None:
        """Let go of an answer."""
        shelf = self._taken(key)
        if shelf is not None:
            self._shelve(key, shelf, tuple(one for one in shelf.answers if one is not stored))

    def _shelve(self, key: Key, shelf: _Shelf, answers: tuple[Stored, ...]) -> None:
        if not answers:
            return
        shelf.answers = answers
        # Clients choose the key: a long query in front of a short answer is what takes the room.
        shelf.size = sum(one.size for one in answers) + sum(map(len, key))
        if shelf.size > self.capacity:
            return
        self._window[key] = shelf
        self._window_size += shelf.size
        for names, index in self._indexed(key, shelf):
            for name in names:
                index.setdefault(name, set()).add(key)
        self._make_room()

    def _make_room(self) -> None:
        """Bring what the window cannot hold to the main part, and decide who stays where it is full."""
        window = int(self.capacity * _WINDOW)
        while self._window_size > window:
            key = next(iter(self._window))
            # While there is room, nobody has to compete.
            if self.size <= self.capacity or self._admitted(key):
                self._promote(key)
            else:
                self._remove(key)
        while self.size > self.capacity:
            self._remove(next(iter(self._main or self._window)))

    def _promote(self, key: Key) -> None:
        shelf = self._window.pop(key)
        self._window_size -= shelf.size
        self._main[key] = shelf
        self._main_size += shelf.size

    def _admitted(self, key: Key) -> bool:
        """Make room for a key among the main ones, if it was asked for more often than those that would have to go."""
        count, needed = self._sketch.count(key), self.size - self.capacity
        victims = []
        for other, shelf in self._main.items():
            if needed <= 0:
                break
            if self._sketch.count(other) >= count:
                return False
            victims.append(other)
            needed -= shelf.size
        if needed > 0:
            return False
        for other in victims:
            self._remove(other)
        return True

    def _remove(self, key: Key) -> None:
        self._taken(key)

    def _taken(self, key: Key) -> _Shelf | None:
        """Take the shelf of a key out of everything."""
        shelf = self._window.pop(key, None)
        if shelf is not None:
            self._window_size -= shelf.size
        else:
            shelf = self._main.pop(key, None)
            if shelf is None:
                return None
            self._main_size -= shelf.size
        for names, index in self._indexed(key, shelf):
            for name in names:
                keys = index[name]
                keys.discard(key)
                if not keys:
                    del index[name]
        return shelf

    def _indexed(
        self, key: Key, shelf: _Shelf
    ) -> Iterator[tuple[Iterable[bytes], dict[bytes, set[Key]]]]:
        yield (path_mark(key[3]),), self._by_path
        tags = {tag for one in shelf.answers for tag in one.judged.tags}
        yield [digest_of(b"tag", tag) for tag in tags], self._by_tag
        yield {one.route.encode() for one in shelf.answers}, self._by_route

    # What deletes

    def invalidate(self, target: Target) -> None:
        """Let go of the answers of one resource, of all callers (RFC 9111, 4.4)."""
        self.delete(Deletion.of_target(target))

    def _mark(self, path: bytes | None) -> None:
        self._deletions += 1
        if path is None:
            self._marks.clear()
            self._base = self._deletions
            return
        self._marks[path] = self._deletions
        self._marks.move_to_end(path)
        if len(self._marks) > _MARKS:
            _, self._base = self._marks.popitem(last=False)

    def clear(self) -> None:
        """Let go of everything."""
        self._mark(None)
        for key in (*self._window, *self._main):
            self._remove(key)

    def purge(
        self, *, route: str | None = None, path: bytes | None = None, tag: bytes | None = None
    ) -> int:
        """Let go of the answers that fit all that is said; return how many keys."""
        return self.delete(Deletion.chosen(route=route, path=path, tag=tag))

    def delete(self, deletion: Deletion) -> int:
        """Let go of the answers that a deletion names; return how many keys."""
        if deletion == Deletion():
            self.clear()
            return 0
        self._mark(deletion.path)
        chosen: list[set[Key]] = []
        if deletion.route is not None:
            chosen.append(self._by_route.get(deletion.route.encode(), set()))
        if deletion.path is not None:
            chosen.append(self._by_path.get(deletion.path, set()))
        if deletion.tag is not None:
            chosen.append(self._by_tag.get(deletion.tag, set()))
        keys = set.intersection(*chosen) if chosen else set()
        if deletion.target is not None:
            keys = {key for key in keys if target_mark(target_of(key)) == deletion.target}
        for key in keys:
            self._remove(key)
        return len(keys)

    def popularity(self, key: Key) -> int:
        """Return how often a key was asked for lately, as this worker knows it."""
        return self._sketch.count(key)
