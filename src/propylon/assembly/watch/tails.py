"""Pass on requests as they end to those that watch them, from all workers; and count the requests of instances meanwhile.

    the viewer's worker ── "I watch, with these filters, until t" ──► all others, every two seconds
                        ◄── records that pass a filter, some at a time ── each of them

Facts. While nobody watches, no worker has an observer here: a request pays nothing. While somebody does, each worker passes
on at most `_A_SECOND` records a second for each viewer, and tells how many more there were. A worker that hears no more of a
viewer stops by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from propylon.proxy.exchange import Exchange, Observer
from propylon.stores.shared import Facts
from propylon.stores.siblings import MISSED, Message
from propylon.telemetry.access_log import Stamp
from propylon.telemetry.recent import described, who

__all__ = ["Filter", "Tail", "Tails"]

_TOPIC = "watch"
_RENEW = 2.0  # seconds
_LEASE = 6.0
_A_SECOND = 50
_BEAT = 0.25  # seconds between two lots of records
_BACKLOG = 400  # records that wait for a viewer
_LONGEST = 2048  # characters of a path: a message has a largest size


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests a viewer wants to see; what is empty does not matter."""

    route: str = ""
    service: str = ""
    caller: str = ""
    method: str = ""
    text: str = ""  # in the path
    least_status: int = 0
    slower_than: float = 0.0  # seconds

    def passes(self, exchange: Exchange) -> bool:
        """Tell whether it wants to see this one."""
        request, route = exchange.request, exchange.route
        if route is not None and route.service.builtin and self.service != route.service.name:
            return False  # the gateway's own endpoints, this one among them
        return (
            exchange.status >= self.least_status
            and exchange.ended - exchange.began >= self.slower_than
            and (not self.route or (route is not None and route.name == self.route))
            and (not self.service or (route is not None and route.service.name == self.service))
            and (not self.caller or self._is_caller(exchange))
            and (not self.method or (request is not None and request.method == self.method))
            and (
                not self.text
                or (request is not None and self.text in request.path.decode("latin-1"))
            )
        )

    def _is_caller(self, exchange: Exchange) -> bool:
        name = who(exchange)
        return self.caller == name or (
            name != "private" and self.caller == exchange.downstream.origin.client
        )


@dataclass(slots=True)
class _Watched:
    """A viewer of some worker, as this one knows it."""

    filter: Filter
    until: float
    left: int = _A_SECOND
    skipped: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)


class Tail:
    """One viewer of this worker: what has come for it and has not been fetched."""

    def __init__(self, chosen: Filter) -> None:
        """Want to see what passes `chosen`."""
        self.filter = chosen
        self.skipped = 0
        self.ended = False
        self.came = asyncio.Event()
        self._waiting: deque[dict[str, Any]] = deque()

    def take(self, records: Iterable[dict[str, Any]], skipped: int) -> None:
        """Add records; a viewer that does not fetch them loses the oldest."""
        self._waiting.extend(records)
        self.skipped += skipped
        while len(self._waiting) > _BACKLOG:
            self._waiting.popleft()
            self.skipped += 1
        self.came.set()

    def fetch(self) -> tuple[list[dict[str, Any]], int]:
        """Return what has come, and how many records were left out."""
        found = (list(self._waiting), self.skipped)
        self._waiting.clear()
        self.skipped = 0
        self.came.clear()
        return found


class Tails:
    """The viewers of this worker, and those of the others that this worker tells."""

    def __init__(
        self,
        facts: Facts,
        loop: asyncio.AbstractEventLoop,
        attach: Callable[[Observer | None], None],
    ) -> None:
        """`attach` has an observer called for each exchange of this worker; None: none any more."""
        self._facts = facts
        self._loop = loop
        self._attach = attach
        self._stamp = Stamp()
        self._mine: dict[str, Tail] = {}
        self._counting = 0  # viewers of this worker that want instances counted
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._counted_until = 0.0
        self.instances: dict[tuple[str, str], list[int]] = {}
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.TimerHandle | None = None
        self._is_attached = False
        self._second = 0

    def join(self) -> None:
        """Hear the others from now on."""
        self._facts.hear(_TOPIC, self._hear)

    def end(self) -> None:
        """End the streams of this worker's viewers."""
        for tail in self._mine.values():
            tail.ended = True
            tail.came.set()

    def close(self) -> None:
        """Watch nothing any more."""
        self._mine.clear()
        self._watched.clear()
        for timer in (self._timer, self._renewal):
            if timer is not None:
                timer.cancel()
        self._timer = self._renewal = None
        self._detach()

    # Viewers of this worker

    def open(self, chosen: Filter) -> tuple[str, Tail]:
        """Begin to watch; return the viewer's name, for `shut`."""
        self._number += 1
        name, tail = str(self._number), Tail(chosen)
        self._mine[name] = tail
        self._renew()
        return name, tail

    def shut(self, name: str) -> None:
        """Watch no more."""
        self._mine.pop(name, None)
        self._watched.pop((self._facts.name, name), None)

    def count_instances(self, change: int) -> None:
        """Have the requests of instances counted in all workers while at least one viewer (+1, -1) wants it."""
        self._counting += change
        if change > 0:
            self._renew()

    def _renew(self) -> None:
        """Tell all workers, this one too, what is watched; again while there are viewers."""
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        if not self._mine and not self._counting:
            return
        message = {
            "op": "watch",
            "from": self._facts.name,
            "counts": self._counting > 0,
            "tails": {name: _written(tail.filter) for name, tail in self._mine.items()},
        }
        self._watch(message)
        self._facts.tell(_TOPIC, message)
        self._renewal = self._loop.call_later(_RENEW, self._renew)

    # What this worker tells

    def _hear(self, message: Message) -> None:
        if message["op"] == "watch":
            self._watch(message)
        elif message["op"] == "records":
            tail = self._mine.get(message["tail"])
            if tail is not None:
                tail.take(message["records"], message["skipped"])
        elif message["op"] == MISSED["op"]:
            self._renew()

    def _watch(self, message: Mapping[str, Any]) -> None:
        until = self._loop.time() + _LEASE
        if message["counts"]:
            self._counted_until = until
        said, viewer = message["tails"], message["from"]
        for key in [key for key in self._watched if key[0] == viewer and key[1] not in said]:
            del self._watched[key]
        for name, written in said.items():
            known = self._watched.get((viewer, name))
            if known is None:
                self._watched[viewer, name] = _Watched(Filter(**written), until)
            else:
                known.until = until
        if not self._is_attached:
            self._is_attached = True
            self._attach(self.note)
        if self._timer is None:
            self._timer = self._loop.call_later(_BEAT, self._beat)

    def note(self, exchange: Exchange) -> None:
        """Count an exchange that has ended, and keep it for the viewers that want to see it."""
        instance, route = exchange.instance, exchange.route
        if instance is not None and route is not None:
            counts = self.instances.setdefault((route.service.name, instance.id), [0, 0])
            counts[0] += 1
            counts[1] += exchange.error is not None or exchange.status >= 500
        fields: dict[str, Any] | None = None
        for watched in self._watched.values():
            if not watched.filter.passes(exchange):
                continue
            if not watched.left:
                watched.skipped += 1
                continue
            watched.left -= 1
            if fields is None:
                fields = described(exchange, self._stamp())
                fields["path"] = (fields["path"] or "")[:_LONGEST]
            watched.records.append(fields)

    def _beat(self) -> None:
        now = self._loop.time()
        self._watched = {key: one for key, one in self._watched.items() if one.until > now}
        fresh, self._second = int(now) != self._second, int(now)
        for (viewer, name), watched in self._watched.items():
            if fresh:
                watched.left = _A_SECOND
            if watched.records or watched.skipped:
                self._tell(viewer, name, watched)
        if self._watched or self._counted_until > now:
            self._timer = self._loop.call_later(_BEAT, self._beat)
        else:
            self._timer = None
            self._detach()

    def _tell(self, viewer: str, name: str, watched: _Watched) -> None:
        records, watched.records = watched.records, []
        skipped, watched.skipped = watched.skipped, 0
        if viewer == self._facts.name:
            if (tail := self._mine.get(name)) is not None:
                tail.take(records, skipped)
            return
        for at in range(0, max(1, len(records)), 16):
            lot = {"op": "records", "tail": name, "records": records[at : at + 16]}
            self._facts.tell(_TOPIC, {**lot, "skipped": 0 if at else skipped}, to=viewer)

    def _detach(self) -> None:
        if self._is_attached:
            self._is_attached = False
            self._attach(None)
            self.instances.clear()


def _written(chosen: Filter) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in Filter.__slots__}
