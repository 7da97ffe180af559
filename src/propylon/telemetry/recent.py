"""Remember the last requests that were refused or failed, and who runs into limits: what a dashboard shows of the past.

Facts. Only exchanges with an error, a 5xx or a limit that was reached come here, so a good request pays nothing. An attack
of refusals pays little: at most `_A_SECOND` of them are described in a second, the others are only counted. What is
remembered is what the access log has: no query, no header, no body, no token.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from propylon.errors import RateLimited
from propylon.proxy.exchange import Exchange
from propylon.telemetry.access_log import Stamp
from propylon.telemetry.record import level_of, record

__all__ = ["REMEMBERED", "Recent", "described", "merged", "who"]

REMEMBERED = 200
"""Exchanges that a worker remembers."""
_A_SECOND = 50
# Callers of limits that are remembered; of more, those that ran into them least leave.
_CALLERS = 512
_FORGOTTEN = 3600.0  # seconds
_REFUSED = 400


class Recent:
    """What one worker remembers."""

    def __init__(self, source: str, now: Callable[[], float] = time.time) -> None:
        """`source` names the worker's life: with a number it identifies each exchange. `now` is in seconds since 1970."""
        self.source = source
        self.changed = False  # since whoever reads it set it to False
        self.skipped = 0  # exchanges that were only counted
        self._now = now
        self._stamp = Stamp(now)
        self._number = 0
        self._records: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._callers: dict[tuple[str, str], list[float]] = {}
        self._second = 0.0
        self._left = _A_SECOND

    def note(self, exchange: Exchange) -> None:
        """Remember an exchange with an error, a 5xx, or a limit that was reached."""
        now = self._now()
        for limit in exchange.limited:
            self._count(limit, who(exchange), now)
        if exchange.status < _REFUSED and exchange.error is None:
            return  # a limit in shadow mode: the request went well
        self.changed = True
        if now - self._second >= 1.0:
            self._second, self._left = now, _A_SECOND
        if not self._left:
            self.skipped += 1
            return
        self._left -= 1
        self._number += 1
        self._records.append(
            {"id": f"{self.source}-{self._number}", **described(exchange, self._stamp())}
        )

    def _count(self, limit: str, caller: str, now: float) -> None:
        self.changed = True
        found = self._callers.get((limit, caller))
        if found is None:
            if len(self._callers) >= _CALLERS:
                ranked = sorted(self._callers.items(), key=lambda one: one[1][0], reverse=True)
                self._callers = dict(ranked[: _CALLERS // 2])
            found = self._callers[limit, caller] = [0.0, now, now]
        found[0] += 1
        found[2] = now

    def dump(self) -> Mapping[str, Any]:
        """Return all of it, for JSON; callers that have left their limits alone for an hour are forgotten."""
        oldest = self._now() - _FORGOTTEN
        self._callers = {key: one for key, one in self._callers.items() if one[2] >= oldest}
        return {
            "source": self.source,
            "skipped": self.skipped,
            "records": list(self._records),
            "callers": [[*key, *one] for key, one in self._callers.items()],
        }


def described(exchange: Exchange, stamp: str) -> dict[str, Any]:
    """Return the record of an exchange as the access log has it, with the code of its error; without a traceback."""
    fields = record(exchange, level_of(exchange), stamp)
    fields.pop("traceback", None)
    fields["code"] = None if exchange.error is None else exchange.error.code
    if isinstance(exchange.error, RateLimited):
        fields["violated"] = list(exchange.error.violated)
    return fields


def who(exchange: Exchange) -> str:
    """Return who is asking, for operators: the user, else the address; nobody's name where the client wants privacy."""
    if exchange.privacy.level == "strict":
        return "private"
    return exchange.principal.subject or exchange.downstream.origin.client


def merged(dumps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all workers remember, as one: the newest records first, the callers with most refusals first."""
    records: list[dict[str, Any]] = []
    callers: dict[tuple[str, str], list[float]] = {}
    skipped = 0
    for one in dumps:
        records += one["records"]
        skipped += one["skipped"]
        for limit, caller, count, first, last in one["callers"]:
            found = callers.setdefault((limit, caller), [0.0, first, last])
            found[0] += count
            found[1], found[2] = min(found[1], first), max(found[2], last)
    records.sort(key=lambda fields: str(fields["time"]), reverse=True)
    ranked = sorted(callers.items(), key=lambda one: one[1][0], reverse=True)
    return {
        "skipped": skipped,
        "records": records[:REMEMBERED],
        "callers": [[*key, *one] for key, one in ranked[:_CALLERS]],
    }
