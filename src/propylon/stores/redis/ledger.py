"""Note what is spent while Redis is away, and what Redis said last, so that neither is forgotten when it is back. Pure.

Two facts of each key, and they come back by different ways:

- *own*: what this worker has let pass meanwhile. It is added to what Redis has: each worker and gateway adds its own.
- *seed*: what Redis said last, before it went away. Redis has it still, or more, unless it has lost its memory. So it takes
  the larger of the two.

Both shrink by themselves as time passes, like any debt. Of a sliding window there is no seed: Redis tells how much is spent,
and not when.

Bounds. Of the keys that Redis has spoken of, the newest 20,000 are remembered, and of those that were spent from while it was
away, 10,000. What does not fit is not carried over, and the log says of how many keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from propylon.proxy.limit.arithmetic import debt_at, spent
from propylon.proxy.limit.rule import Rule
from propylon.stores.redis.encoding import Carried

__all__ = ["Entry", "Known", "Ledger"]

_MOST_KNOWN = 10_000  # twice: there are two generations
_MOST_KEYS = 10_000
# Pairs of a moment and units, of one key of a window.
_MOST_MOMENTS = 64


class Known:
    """What Redis said last of each key: the debt, and when that was (microseconds)."""

    __slots__ = ("_new", "_old", "now")

    def __init__(self) -> None:
        """Begin with nothing; `now` is when what is noted was said."""
        self.now = 0
        self._new: dict[bytes, tuple[Rule, int, int]] = {}
        self._old: dict[bytes, tuple[Rule, int, int]] = {}

    def note(self, name: bytes, rule: Rule, debt: int) -> None:
        """Note what Redis says. When there is no room, the keys that were not spoken of for longest go."""
        if len(self._new) >= _MOST_KNOWN:
            self._old, self._new = self._new, {}
        self._new[name] = (rule, debt, self.now)

    def debt(self, name: bytes, now: int) -> int:
        """Return what is still owed of what Redis said last."""
        found = self._new.get(name) or self._old.get(name)
        return 0 if found is None else _left(*found, now)

    def owed(self, now: int) -> Iterator[Carried]:
        """Return everything that is still owed."""
        for name, (rule, debt, at) in {**self._old, **self._new}.items():
            if left := _left(rule, debt, at, now):
                yield (rule, name, 0, left, 0)


def _left(rule: Rule, debt: int, at: int, now: int) -> int:
    return max(debt - (now - at) * rule.scale, 0)


@dataclass(slots=True)
class Entry:
    """What this worker has spent of one key, and what Redis said of it before."""

    rule: Rule
    seed: int
    seeded: int  # when, in microseconds
    full: int = 0  # of a bucket: the tick at which what was spent here is paid off
    moments: list[tuple[int, int]] = field(default_factory=list)  # of a window: when, how much

    def add(self, units: int, now: int) -> None:
        """Note units that were spent, or given back if negative."""
        rule = self.rule
        if not rule.sliding:
            debt = spent(rule, debt_at(rule, self.full, now), units)
            self.full = now * rule.scale + debt
        elif units < 0:
            self._give_back(-units)
        elif self.moments and len(self.moments) >= _MOST_MOMENTS:
            # Later than they were: the caller waits a little longer, and never gets more.
            self.moments[-1] = (now, self.moments[-1][1] + units)
        else:
            self.moments.append((now, units))

    def _give_back(self, units: int) -> None:
        while self.moments and units > 0:
            at, had = self.moments.pop()
            if had > units:
                self.moments.append((at, had - units))
            units -= had

    def carried(self, name: bytes, now: int) -> Iterator[Carried]:
        """Return what is left of it now."""
        rule = self.rule
        if rule.sliding:
            for at, units in self.moments:
                if now - at < rule.period:
                    yield (rule, name, units, 0, now - at)
            return
        own, seed = debt_at(rule, self.full, now), _left(rule, self.seed, self.seeded, now)
        if own or seed:
            yield (rule, name, own, seed, 0)


class Ledger:
    """What this worker has spent while Redis was away."""

    __slots__ = ("_clock", "_entries", "dropped")

    def __init__(self, clock: Callable[[], int]) -> None:
        """`clock` is monotonic, in microseconds."""
        self.dropped = 0
        self._clock = clock
        self._entries: dict[bytes, Entry] = {}

    def __contains__(self, name: bytes) -> bool:
        """Tell whether a key has been spent from."""
        return name in self._entries

    def open(self, name: bytes, rule: Rule, seed: int) -> None:
        """Begin to note what is spent of a key."""
        if len(self._entries) < _MOST_KEYS:
            self._entries[name] = Entry(rule, seed, self._clock())

    def add(self, name: bytes, units: int) -> None:
        """Note units of a key; negative ones were given back."""
        entry = self._entries.get(name)
        if entry is None:
            self.dropped += 1
        else:
            entry.add(units, self._clock())

    def take(self, most: int, wanted: Callable[[bytes], bool]) -> dict[bytes, Entry]:
        """Remove and return so many of the keys that are wanted."""
        names = [*islice(filter(wanted, self._entries), most)]
        return {name: self._entries.pop(name) for name in names}

    def put_back(self, taken: Mapping[bytes, Entry]) -> None:
        """Keep what could not be carried over for the next time."""
        for name, entry in taken.items():
            if self._entries.setdefault(name, entry) is not entry:
                self.dropped += 1

    def carried(self, taken: Mapping[bytes, Entry]) -> Iterator[Carried]:
        """Return what is to be carried over."""
        now = self._clock()
        for name, entry in taken.items():
            yield from entry.carried(name, now)
