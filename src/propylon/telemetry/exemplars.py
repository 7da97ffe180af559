"""Keep for each bucket of the durations one trace that was counted there: an exemplar of OpenMetrics.

Facts. Rows of numbers are what workers share, and the rows of equal labels are added up. So each worker has a name among the
labels of its exemplars: a sum of trace ids would be none. A worker that dies leaves its rows to another, and the
name with them. A reader may look while a row is being written: a check number tells whether what it found belongs together.
"""

from __future__ import annotations

import secrets
import struct
import time
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Protocol

from prometheus_client.samples import Exemplar

from propylon.proxy.route import Route
from propylon.telemetry.families import DURATION

__all__ = ["EXEMPLARS", "Exemplars", "Traces"]

EXEMPLARS = "exemplars"
_BUCKETS = DURATION.buckets
_COUNTS = len(_BUCKETS) + 1
# Of an exemplar: seconds, time, the trace id in three numbers (a float holds 53 bits of it), and the check number.
_PARTS = 6
_WIDTH = _PARTS * _COUNTS
_PACKED = struct.Struct("=5d")
# Routes of one worker: seven hundred bytes each.
_MOST_ROUTES = 1000
# Seconds. A client of a metrics system looks at the last hours: an older trace is gone from its store as a rule.
_OLDEST = 3600.0

_Labels = tuple[str, ...]


class _Row(Protocol):
    def __setitem__(self, at: int, value: float, /) -> None:
        """Set one of the numbers."""


class _Sums(Protocol):
    def row(self, labels: _Labels, width: int) -> _Row:
        """Return the row of these labels."""

    def own(self) -> Iterable[tuple[_Labels, object]]:
        """Return this worker's rows."""


class Exemplars:
    """The exemplars of one worker."""

    def __init__(self, sums: _Sums) -> None:
        """Keep them in `sums`, under a name that no other worker has."""
        self._sums = sums
        taken = (labels[-1] for labels, _ in sums.own() if labels[0] == EXEMPLARS)
        self._worker = next(taken, None) or secrets.token_hex(4)
        self._rows: dict[tuple[str, str], _Row] = {}

    def note(self, route: Route, seconds: float, trace_id: bytes) -> None:
        """Keep the trace of an exchange that took so long, in place of the one before."""
        key = (route.name, route.service.name)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= _MOST_ROUTES:
                return
            labels = (EXEMPLARS, *key, self._worker)
            row = self._rows[key] = self._sums.row(labels, _WIDTH)
        at = _PARTS * bisect_left(_BUCKETS, seconds)
        parts = (
            seconds,
            time.time(),
            float(int(trace_id[:11], 16)),
            float(int(trace_id[11:22], 16)),
            float(int(trace_id[22:], 16)),
        )
        for offset, number in enumerate((*parts, _check(parts))):
            row[at + offset] = number


class Traces:
    """The exemplars of all workers, as a scrape finds them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: dict[_Labels, list[Exemplar | None]] = {}

    def add(self, labels: _Labels, numbers: Sequence[float]) -> None:
        """Take the row of a worker; of two for one bucket, the newer one counts."""
        if len(numbers) != _WIDTH:
            return
        mine = self._found.setdefault(labels[:2], [None] * _COUNTS)
        for bucket in range(_COUNTS):
            found = _read(numbers[bucket * _PARTS : (bucket + 1) * _PARTS])
            known = mine[bucket]
            if found is not None and (known is None or _time(known) < _time(found)):
                mine[bucket] = found

    def beside(self, labels: _Labels, counts: Sequence[tuple[str, float]]) -> list[object]:
        """Return the buckets of these labels with their exemplars."""
        found = self._found.get(labels)
        if found is None:
            return [*counts]
        return [
            pair if exemplar is None else (*pair, exemplar)
            for pair, exemplar in zip(counts, found, strict=True)
        ]


def _time(exemplar: Exemplar) -> float:
    return float(exemplar.timestamp or 0.0)


def _check(parts: Sequence[float]) -> float:
    return float(zlib.crc32(_PACKED.pack(*parts)))


def _read(numbers: Sequence[float]) -> Exemplar | None:
    *parts, check = numbers
    seconds, when, *digits = parts
    if not when or _check(parts) != check or time.time() - when > _OLDEST:
        return None
    first, second, third = (int(number) for number in digits)
    return Exemplar({"trace_id": f"{first:011x}{second:011x}{third:010x}"}, seconds, when)
