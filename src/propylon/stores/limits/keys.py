"""Find and keep what is counted of each key of one limit, in the files that the workers share (`segment`)."""

from __future__ import annotations

import struct
from typing import Generic, TypeVar

from propylon.proxy.limit.arithmetic import Log, end_of
from propylon.proxy.limit.rule import Rule, storage_key
from propylon.stores.limits.records import FULL, TICKS
from propylon.stores.limits.segment import FIRST, HANDLE, Segment, Unusable
from propylon.stores.limits.tables import Keys

__all__ = ["BucketKeys", "LogKeys"]

S = TypeVar("S")

_PAIR = struct.Struct("<QQ")
_PLACE = struct.Struct("<H")  # of a shared counter
_NOTHING = _PAIR.pack(0, 0)  # for a log without a pair: so its value is longer than a handle
_SHARED = 1024
# Of a limit, a process remembers the handles of so many keys. When there are more, it forgets all at once: that is cheaper
# than to know which one was used last.
_HANDLES = 4096


class _FileKeys(Keys[S], Generic[S]):
    """The keys of one limit in the files."""

    __slots__ = ("_common", "_rule", "_segment")

    def __init__(self, segment: Segment, rule: Rule) -> None:
        """Keep them under the rule's identity."""
        self._segment = segment
        self._rule = rule
        self._common = storage_key(rule.identity, "\n")[: -_PLACE.size]

    def _name(self, key: str) -> bytes:
        """Return the name under which a key is kept."""
        return storage_key(self._rule.identity, key)

    def _shared(self, name: bytes) -> bytes:
        """Return the name of the counter that a key without room shares: any bits of a digest will do."""
        return self._common + _PLACE.pack(_PLACE.unpack_from(name)[0] % _SHARED)


class BucketKeys(_FileKeys[int]):
    """For each key, when its bucket is full."""

    __slots__ = ("handles",)

    def __init__(self, segment: Segment, rule: Rule) -> None:
        """Keep them under the rule's identity."""
        super().__init__(segment, rule)
        # Those of keys that had a record of their own when this process last looked.
        self.handles: dict[str, int] = {}

    def find(self, key: str) -> int | None:
        """Return what is kept."""
        at = self.place(key)
        if not at:
            return None
        words = self._segment.records.words
        return words[at + FULL] * self._rule.scale + words[at + TICKS]

    def put(
        self, key: str, state: int, now: int  # noqa: ARG002 — the files are swept by transactions
    ) -> None:
        """Keep a state. A new key that has no room shares. Raises Unusable."""
        at = self.place(key) or self._new_place(key)
        words = self._segment.records.words
        full, ticks = divmod(state, self._rule.scale)
        # In this order: see rule 2 of `records`.
        words[at + TICKS] = ticks
        words[at + FULL] = full

    def place(self, key: str) -> int:
        """Return the place of the record that counts for a key, which may be one that it shares; 0: there is none."""
        place = self._segment.records.place
        handle = self.handles.get(key)
        if handle is not None and (at := place(handle)):
            return at
        name = self._name(key)
        handle = self._handle(name)
        if at := place(handle):
            self._remember(key, handle)
            return at
        return place(self._handle(self._shared(name)))

    def _handle(self, name: bytes) -> int:
        value = self._segment.open.get(name)
        return 0 if value is None else int(HANDLE.unpack(value)[0])

    def _new_place(self, key: str) -> int:
        segment, name = self._segment, self._name(key)
        handle = self._segment.records.new() if segment.come() else 0
        if handle:
            self._remember(key, handle)
        else:
            name = self._shared(name)
            handle = self._segment.records.new(shared=True)
            if not handle:
                msg = "there is no room, not even for a counter that keys share"
                raise Unusable(msg)
        segment.put(name, HANDLE.pack(handle), made=handle)
        return self._segment.records.place(handle)

    def _remember(self, key: str, handle: int) -> None:
        if len(self.handles) >= _HANDLES:
            self.handles.clear()
        self.handles[key] = handle


class LogKeys(_FileKeys[Log]):
    """For each key, its log."""

    __slots__ = ()

    def find(self, key: str) -> Log | None:
        """Return what is kept."""
        get, name = self._segment.open.get, self._name(key)
        value = get(name) or get(self._shared(name))
        return None if value is None else tuple(_PAIR.iter_unpack(value[FIRST.size :]))

    def put(
        self, key: str, state: Log, now: int  # noqa: ARG002 — the files are swept by transactions
    ) -> None:
        """Keep a state. A new key that has no room shares."""
        segment, name = self._segment, self._name(key)
        if segment.open.get(name) is None and not segment.come():
            name = self._shared(name)
        dead = end_of(self._rule, state[-1][0]) if state else 0
        pairs = b"".join([_PAIR.pack(*pair) for pair in state])
        segment.put(name, FIRST.pack(dead) + (pairs or _NOTHING))
