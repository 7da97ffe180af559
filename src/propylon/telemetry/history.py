"""Keep an hour of requests, errors and durations of each route, in buckets of ten seconds. Pure: the clock is an argument.

One worker, the keeper, adds up every ten seconds what all workers have counted for `/metrics`, and puts the difference to
the last time on a shelf that all workers can read. So the hour survives the keeper, and no request pays for it.

    sums of all workers ──► totals ──► minus those of before ──► history-<bucket>
                                  └──► every five minutes, as they are ──► checkpoint-<bucket>

- A bucket holds only the routes that had requests in it. It is packed: about a dozen bytes for a route.
- What is asked of "the last hour" for all routes at once is the totals now minus the oldest checkpoint: one file to read,
  however many buckets there are.
- The shelf has a largest size. Beyond it the oldest buckets go: the history is shorter, and the memory does not grow.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Protocol

import orjson

from propylon.telemetry.families import DURATION

__all__ = [
    "BUCKET",
    "BUCKETS",
    "FAILED",
    "MOST",
    "REFUSED",
    "SIZE",
    "Key",
    "Point",
    "Recorder",
    "Shelf",
    "Totals",
    "checkpoint",
    "figures",
    "quantile",
    "series",
    "total_series",
]

BUCKET = 10
"""Seconds of a bucket."""
BUCKETS = 360
"""Buckets that are kept: an hour."""
MOST = 24 * 2**20
"""Bytes of all buckets and checkpoints."""
_DURATIONS = len(DURATION.buckets) + 1
# Of a route: how many requests fell into each bucket of the durations, how many were 4xx, how many 5xx.
REFUSED, FAILED = _DURATIONS, _DURATIONS + 1
SIZE = _DURATIONS + 2
_BOUNDS = (0.0, *DURATION.buckets)
_CHECKPOINT_EVERY = 30  # buckets: five minutes
_HEAD = struct.Struct("<cxxxI")
_NAMES, _TOTAL, _HISTORY, _CHECKPOINT = "names", "total", "history-", "checkpoint-"
_LARGEST = 2**32 - 1
# Routes that are looked at before the loop gets a turn: a fifth of a millisecond.
_SLICE = 64
# zlib's fastest: five milliseconds for 5,000 routes, in a thread; the best takes ten times as long for a tenth less.
_LEVEL = 1

Key = tuple[str, str]
"""A route and its service, by name; two empty texts: no route matched."""
Totals = Mapping[Key, Sequence[float]]
Point = tuple[int, int, int, int, float | None, float | None, float | None]
"""Begin (seconds since 1970), requests, 4xx, 5xx, and the 50th, 95th and 99th percentile in seconds."""


class Shelf(Protocol):
    """Keeps pieces of bytes under names, for all workers: the port that a store fills."""

    def put(self, name: str, data: bytes) -> None:
        """Keep it, in the place of what had the name. Raises OSError where there is no room."""

    def get(self, name: str) -> bytes | None:
        """Return it; None if there is none."""

    def sizes(self) -> Mapping[str, int]:
        """Return the names of all pieces, with their bytes."""

    def drop(self, name: str) -> None:
        """Keep it no longer."""


def quantile(counts: Sequence[float], share: float) -> float | None:
    """Return the duration, in seconds, that this share of requests stayed below; None without requests.

    Interpolated within the bucket, as Prometheus' `histogram_quantile` does; beyond the last bound, the last bound.
    """
    total = sum(counts[:_DURATIONS])
    if not total:
        return None
    rank, below = share * total, 0.0
    for at, (lower, upper) in enumerate(pairwise(_BOUNDS)):
        count = counts[at]
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below += count
    return _BOUNDS[-1]


def figures(
    counts: Sequence[float],
) -> tuple[int, int, int, float | None, float | None, float | None]:
    """Return requests, 4xx, 5xx, and the three percentiles of one row."""
    return (
        int(sum(counts[:_DURATIONS])),
        int(counts[REFUSED]),
        int(counts[FAILED]),
        quantile(counts, 0.5),
        quantile(counts, 0.95),
        quantile(counts, 0.99),
    )


class Recorder:
    """What the keeper remembers between two buckets."""

    def __init__(self, shelf: Shelf) -> None:
        """Go on with the history on the shelf, if there is one."""
        self._shelf = shelf
        known = _names(shelf)
        self._ids: dict[Key, int] = {name: at for at, name in enumerate(known)}
        # Where there is no history, the gateway has just started, and all that it has counted is new.
        self._before: Totals | None = {} if not known else None

    def record(
        self, totals: Totals, now: float
    ) -> Generator[None, None, dict[str, Callable[[], bytes]]]:
        """Return, in slices, what makes the pieces for the shelf, in this order; `now` is in seconds since 1970.

        To make them takes a while: a thread may do it.
        """
        bucket = int(now // BUCKET)
        before, self._before = self._before, totals
        pieces: dict[str, Callable[[], bytes]] = {}
        known = len(self._ids)
        for key in totals:
            self._ids.setdefault(key, len(self._ids))
        if len(self._ids) > known:
            pieces[_NAMES] = partial(orjson.dumps, list(self._ids))
        if not any(map(_is_checkpoint, self._shelf.sizes())):
            # Before the first bucket: all that is counted since then is within the hour.
            first = totals if before is None else before
            pieces[f"{_CHECKPOINT}{bucket - 1}"] = partial(_packed, self._by_id(first), "d")
        if before is not None:
            rows = yield from self._difference(totals, before)
            pieces[f"{_HISTORY}{bucket - 1}"] = partial(_packed, rows, "I")
            pieces[_TOTAL] = partial(_appended, self._shelf, bucket - 1, rows)
        if bucket % _CHECKPOINT_EVERY == 0:
            pieces[f"{_CHECKPOINT}{bucket}"] = partial(_packed, self._by_id(totals), "d")
        return pieces

    def _by_id(self, totals: Totals) -> dict[int, Sequence[float]]:
        return {self._ids[key]: counts for key, counts in totals.items()}

    def _difference(
        self, totals: Totals, before: Totals
    ) -> Generator[None, None, dict[int, list[int]]]:
        rows: dict[int, list[int]] = {}
        none = (0.0,) * SIZE
        for at, (key, counts) in enumerate(totals.items()):
            old = before.get(key, none)
            if counts != old:
                rows[self._ids[key]] = [
                    min(_LARGEST, max(0, int(new - was)))
                    for new, was in zip(counts, old, strict=True)
                ]
            if at % _SLICE == 0:
                yield
        return rows

    def tidy(self, now: float) -> None:
        """Drop what is older than an hour, and the oldest of what is too much."""
        bucket = int(now // BUCKET)
        sizes = self._shelf.sizes()
        oldest = bucket - BUCKETS
        kept = sorted((at, name) for name in sizes if (at := _bucket_of(name)) is not None)
        room = MOST - sum(sizes[name] for _, name in kept)
        for at, name in kept:
            last = oldest if name.startswith(_HISTORY) else oldest - _CHECKPOINT_EVERY
            if at < last or room < 0:
                self._shelf.drop(name)
                room += sizes[name]


def total_series(shelf: Shelf, now: float) -> list[Point]:
    """Return the buckets of all routes together, the oldest first."""
    rows = array("I", shelf.get(_TOTAL) or b"")
    width = SIZE + 1
    oldest = int(now // BUCKET) - BUCKETS
    return [
        (rows[at] * BUCKET, *figures(rows[at + 1 : at + width]))
        for at in range(0, len(rows), width)
        if rows[at] >= oldest
    ]


def series(shelf: Shelf, now: float, *, route: str = "", service: str = "") -> list[Point]:
    """Return the buckets of a route, or of all routes of a service, the oldest first. Takes a while: for a thread.

    Buckets without requests are left out.
    """
    wanted = {
        at
        for at, (name, of) in enumerate(_names(shelf))
        if (not route or name == route) and (not service or of == service)
    }
    oldest = int(now // BUCKET) - BUCKETS
    found: list[Point] = []
    for bucket, name in sorted(
        (int(name.removeprefix(_HISTORY)), name)
        for name in shelf.sizes()
        if name.startswith(_HISTORY)
    ):
        data = shelf.get(name)
        counts = None if data is None or bucket < oldest else _sum_of(data, wanted)
        if counts is not None:
            found.append((bucket * BUCKET, *figures(counts)))
    return found


def checkpoint(shelf: Shelf, now: float) -> tuple[float, Totals]:
    """Return the oldest totals within about the last hour, and when they were; (now, {}) if there are none."""
    oldest = int(now // BUCKET) - BUCKETS
    known = sorted(
        int(name.removeprefix(_CHECKPOINT)) for name in shelf.sizes() if _is_checkpoint(name)
    )
    fitting = [at for at in known if at >= oldest] or known[-1:]
    data = shelf.get(f"{_CHECKPOINT}{fitting[0]}") if fitting else None
    if data is None:
        return now, {}
    names = _names(shelf)
    ids, counts = _unpacked(data)
    return fitting[0] * BUCKET, {
        names[id_]: counts[at * SIZE : (at + 1) * SIZE]
        for at, id_ in enumerate(ids)
        if id_ < len(names)
    }


def _names(shelf: Shelf) -> list[Key]:
    data = shelf.get(_NAMES)
    return [] if data is None else [(one[0], one[1]) for one in orjson.loads(data)]


def _is_checkpoint(name: str) -> bool:
    return name.startswith(_CHECKPOINT)


def _bucket_of(name: str) -> int | None:
    for prefix in (_HISTORY, _CHECKPOINT):
        if name.startswith(prefix):
            return int(name.removeprefix(prefix))
    return None


def _appended(shelf: Shelf, bucket: int, rows: Mapping[int, Sequence[int]]) -> bytes:
    before = shelf.get(_TOTAL) or b""
    whole = [sum(column) for column in zip(*rows.values(), strict=True)] or [0] * SIZE
    row = array("I", [bucket, *(min(_LARGEST, count) for count in whole)]).tobytes()
    return (before + row)[-BUCKETS * len(row) :]


def _packed(rows: Mapping[int, Sequence[float]], code: str) -> bytes:
    """Pack rows by id: all ids, sorted, and behind them all numbers."""
    ids = array("I", sorted(rows))
    numbers = array(code, [number for id_ in ids for number in rows[id_]])
    head = _HEAD.pack(code.encode(), len(ids))
    return zlib.compress(head + ids.tobytes() + numbers.tobytes(), _LEVEL)


def _unpacked(data: bytes) -> tuple[Sequence[int], Sequence[float]]:
    found = memoryview(zlib.decompress(data))
    code, count = _HEAD.unpack_from(found)
    begin = _HEAD.size + 4 * count
    numbers: Sequence[float] = array(code.decode(), found[begin:].tobytes())
    return array("I", found[_HEAD.size : begin].tobytes()), numbers


def _sum_of(data: bytes, wanted: Collection[int]) -> list[float] | None:
    ids, counts = _unpacked(data)
    total: list[float] | None = None
    for id_ in wanted:
        at = bisect_left(ids, id_)
        if at < len(ids) and ids[at] == id_:
            row = counts[at * SIZE : (at + 1) * SIZE]
            total = [*row] if total is None else [a + b for a, b in zip(total, row, strict=True)]
    return total
