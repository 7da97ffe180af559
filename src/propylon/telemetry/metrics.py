"""Count what happens, and render `/metrics`: the observer of exchanges, and what Prometheus reads.

Counting an exchange is one look-up in a dict and a few additions. prometheus-client's own counters take a lock for
each increment; here it is told the sums only when they are scraped.

Facts. A row is a few numbers under a key: the name of a family and the values of its labels. Each worker adds to rows of
its own, and the rows of all workers are added up for the answer. An exchange has one row for five families, because
looking up five would cost more than all the rest: its key begins with `EXCHANGES`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Protocol

from prometheus_client.exposition import choose_encoder

from propylon.errors import LocalFault
from propylon.loop.slices import at_once
from propylon.proxy.authenticate.outcomes import OUTCOMES
from propylon.proxy.cache.status import COUNTED
from propylon.proxy.check import ANSWER_RESULTS, RESULTS
from propylon.proxy.exchange import Exchange
from propylon.proxy.forward_auth import RESULTS as ASKED
from propylon.proxy.match import Table
from propylon.proxy.route import Route
from propylon.services.circuit import State
from propylon.services.service import Service
from propylon.telemetry.exemplars import Exemplars
from propylon.telemetry.families import (
    ANSWER_CHECKS,
    CACHE,
    CALL_DURATION,
    CALLS,
    CIRCUIT_STATE,
    CONCURRENCY_LIMIT,
    CONFIG_SUCCESS,
    DATABASE,
    DURATION,
    FAMILIES,
    FAULTS,
    FORWARD_AUTH,
    HEDGES,
    INSTANCE_UP,
    LIMIT_DECISIONS,
    OVERHEAD,
    QUEUE,
    REQUEST_CHECKS,
    RETRIES,
    SOCKETS,
    TOKEN_VERIFICATIONS,
    Family,
    Kind,
)
from propylon.telemetry.scrape import DECISIONS, EXCHANGES, Labels, Samples, gathered, written

__all__ = ["BUILTIN", "Measured", "Metrics", "Row", "Sums"]

_DURATIONS, _OVERHEADS = DURATION.buckets, OVERHEAD.buckets
_COUNTS = len(_DURATIONS) + 1
# The counts of the buckets and of slower exchanges, the seconds, and the bytes of request and response bodies.
_WIDTH = _COUNTS + 3
_NO_ROUTE = ("", "")
_SERVER_ERROR, _CLIENT_ERROR = 500, 400
_STATES = {State.CLOSED: 0.0, State.HALF_OPEN: 1.0, State.OPEN: 2.0}
Totals = dict[tuple[str, str], list[float]]
"""Of each route and its service: the counts of the durations' buckets, the 4xx and the 5xx."""
_Key = tuple[Route | None, str, int]  # a route of the table in force, a method, a status
BUILTIN = "propylon"  # the service of the gateway's own endpoints
# Rows that are read before the loop gets a turn: a fifth of a millisecond.
_SLICE = 64
_GAUGES = {family.name for family in FAMILIES if family.kind is Kind.GAUGE and not family.labels}
_FAMILY = {family.name: family for family in FAMILIES}


Measured = tuple[Family, Labels, float]
"""A gauge with the values of its labels, and what it is at this moment in this worker."""


def _ignore(exchange: Exchange) -> None:
    """Do nothing: nobody wants to know."""


class Row(Protocol):
    """Numbers that are added to in place."""

    def __getitem__(self, at: int, /) -> float:
        """Return one of them."""

    def __setitem__(self, at: int, value: float, /) -> None:
        """Set one of them."""


class Sums(Protocol):
    """Rows of numbers that add up over the workers, each under its labels: the port that a store fills."""

    def row(self, labels: tuple[str, ...], width: int) -> Row:
        """Return the row of these labels, the same one each time. The caller adds to its numbers in place."""

    def rows(self) -> Iterable[tuple[tuple[str, ...], Sequence[float]]]:
        """Return all rows with their labels."""

    def each(self) -> Iterable[tuple[tuple[str, ...], Sequence[float]]]:
        """Return the rows of all workers one after the other, not added up: whoever reads may pause between two."""

    def own(self) -> Iterable[tuple[tuple[str, ...], Row]]:
        """Return the rows of this worker, those that it took over from a dead one included."""


class Metrics:
    """The observer that counts exchanges, and what Prometheus reads."""

    def __init__(self, sums: Sums) -> None:
        # The services that there are now, and when the configuration was put into force: set by what knows it.
        self.services: Callable[[], Iterable[Service]] = tuple
        self.configured = 0.0
        # What only this worker can tell at the moment of a look, and the labels that are left out.
        self.measured: Callable[[], Iterable[Measured]] = tuple
        self.without: frozenset[str] = frozenset()
        # Called with each exchange that has an error, a 5xx, or a limit that it reached.
        self.on_trouble: Callable[[Exchange], None] = _ignore
        self._sums = sums
        # Rows that were looked up already. Routes may share a name (one for each host), and each reload makes new
        # Route objects: they share a row.
        self._rows: dict[_Key, Row] = {}
        self._overhead = self.row(OVERHEAD)
        self._exemplars = Exemplars(sums)

    def count_in(self, sums: Sums) -> None:
        """Count in other sums from now on."""
        self._sums = sums
        self._rows.clear()
        # What a dead worker had open is not open any more.
        for labels, row in sums.own():
            family = _FAMILY.get(labels[0])
            if family is not None and family.kind is Kind.GAUGE:
                row[0] = 0.0
        self._overhead = self.row(OVERHEAD)
        self._exemplars = Exemplars(sums)

    def row(self, family: Family, *labels: str) -> Row:
        """Return this worker's row of a family, the same one each time."""
        return self._sums.row((family.name, *labels), family.width)

    # What happens

    def __call__(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
        request = exchange.request
        key = (exchange.route, "" if request is None else request.method, exchange.status)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = self._row(*key)
        ended = exchange.ended
        seconds = ended - exchange.began
        row[bisect_left(_DURATIONS, seconds)] += 1
        row[-3] += seconds
        downstream = exchange.downstream
        row[-1] += downstream.bytes_out
        body = downstream.body
        if body is not None:
            row[-2] += body.received
        # What the gateway itself took: without the upstream's time, and without that of a body that it streams.
        if exchange.attempts:
            answered = ended if exchange.streams else exchange.answered or ended
            seconds -= answered - exchange.upstream_began
        seconds -= exchange.gathered
        overhead = self._overhead
        overhead[bisect_left(_OVERHEADS, seconds)] += 1
        overhead[-1] += seconds
        if (
            exchange.error is not None
            or exchange.retried
            or exchange.limited
            or exchange.status >= _SERVER_ERROR
        ):
            self._count_trouble(exchange)
        if exchange.queued is not None and exchange.route is not None:
            outcome, waited = exchange.queued
            self._observe(QUEUE, waited, exchange.route.service.name, outcome)

    def note_trace(self, exchange: Exchange) -> None:
        """Keep the trace of an exchange that is recorded beside the bucket that it was counted in."""
        route = exchange.route
        if route is not None:
            seconds = exchange.ended - exchange.began
            self._exemplars.note(route, seconds, exchange.trace_id)

    def _count_trouble(self, exchange: Exchange) -> None:
        if isinstance(exchange.error, LocalFault):
            self.row(FAULTS, exchange.error.reason)[0] += 1
        if exchange.route is not None:
            for reason in exchange.retried:
                self.row(RETRIES, exchange.route.service.name, reason)[0] += 1
        self.on_trouble(exchange)

    def _row(self, route: Route | None, method: str, status: int) -> Row:
        labels = _NO_ROUTE if route is None else (route.name, route.service.name)
        return self._sums.row((EXCHANGES, *labels, method, str(status)), _WIDTH)

    def count_socket(self, route: Route, change: int) -> None:
        """Count a socket of a route that was opened (1) or has ended (-1)."""
        self.row(SOCKETS, route.name, route.service.name)[0] += change

    def limit(self, limit: str) -> Row:
        """Return how many requests a limit allowed, refused, and would have refused: the same row each time."""
        return self._sums.row((LIMIT_DECISIONS.name, limit), len(DECISIONS))

    def cache(self, route: str) -> Row:
        """Return what the cache of a route did, as `COUNTED` has it: the same row each time."""
        return self._sums.row((CACHE.name, route), len(COUNTED))

    def checks(self, route: str) -> Row:
        """Return what the checks of a route's requests found, as `RESULTS` has it: the same row each time."""
        return self._sums.row((REQUEST_CHECKS.name, route), len(RESULTS))

    def questions(self, route: str) -> Row:
        """Return what the questions of a route with `forward_auth` ended in, as `ASKED` has it: the same row each time."""
        return self._sums.row((FORWARD_AUTH.name, route), len(ASKED))

    def tokens(self) -> Row:
        """Return how verifications of tokens ended, as `OUTCOMES` has it: the same row each time."""
        return self._sums.row((TOKEN_VERIFICATIONS.name,), len(OUTCOMES))

    def database(self, operation: str, seconds: float) -> None:
        """Count a use of the database: `read` or `write`."""
        self._observe(DATABASE, seconds, operation)

    def note_call(self, exchange: Exchange) -> None:
        """Count a call that an endpoint has made."""
        if exchange.route is not None:
            service = exchange.route.service.name
            self.row(CALLS, service, str(exchange.status))[0] += 1
            self._observe(CALL_DURATION, exchange.ended - exchange.began, service)

    def note_hedge(self, service: str, result: str) -> None:
        """Count a race of two requests for one answer: the second one `won` or `lost`."""
        self.row(HEDGES, service, result)[0] += 1

    def _observe(self, family: Family, seconds: float, *labels: str) -> None:
        row = self.row(family, *labels)
        row[bisect_left(family.buckets, seconds)] += 1
        row[-1] += seconds

    def answers(self, route: str) -> Row:
        """Return what samples of a route's answers were, as `ANSWER_RESULTS` has it: the same row each time."""
        return self._sums.row((ANSWER_CHECKS.name, route), len(ANSWER_RESULTS))

    def settle(self, *tables: Table) -> None:
        """Release the routes that a reload removed; their counts go on under their names.

        A counter that disappears would read as a reset.
        """
        present = {None, *(route for table in tables for route in table.every_route)}
        self._rows = {key: row for key, row in self._rows.items() if key[0] in present}

    # What is read

    def totals(self) -> Generator[None, None, Totals]:
        """Add up, in slices, what each route has answered. Without the gateway's own endpoints."""
        return (yield from self.totals_and_gauges())[0]

    def totals_and_gauges(self) -> Generator[None, None, tuple[Totals, dict[str, float]]]:
        """Return the same, and what the gauges without labels say, by their names; all summed over the workers."""
        found: Totals = {}
        gauges: dict[str, float] = {}
        for at, (labels, numbers) in enumerate(self._sums.each()):
            if at % _SLICE == 0:
                yield
            if labels[0] == EXCHANGES and labels[2] != BUILTIN:
                _add_to(found, labels, numbers)
            elif len(labels) == 1 and labels[0] in _GAUGES:
                gauges[labels[0]] = gauges.get(labels[0], 0.0) + numbers[0]
        return found, gauges

    def _add_present(self, found: dict[str, Samples]) -> None:
        """Add what this worker knows at the moment."""
        for service in self.services():
            _add_state(found, service)
        if self.configured:
            found[CONFIG_SUCCESS.name][()] = (self.configured,)
        for family, labels, value in self.measured():
            found[family.name][labels] = (value,)

    def rendering(self, accept: str = "") -> Generator[None, None, tuple[bytes, str]]:
        """Return, in slices, all metrics and their media type: OpenMetrics where `accept` asks for it, else Prometheus' text."""
        encode, media_type = choose_encoder(accept)
        found, traces = yield from gathered(self._sums.each())
        self._add_present(found)
        return (yield from written(found, traces, self.without, encode)), media_type

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the same in one go."""
        return at_once(self.rendering(accept))


def _add_to(found: Totals, labels: Labels, numbers: Sequence[float]) -> None:
    total = found.get((labels[1], labels[2]))
    if total is None:
        total = found[labels[1], labels[2]] = [0.0] * (_COUNTS + 2)
    for bucket, count in enumerate(numbers[:_COUNTS]):
        if count:
            total[bucket] += count
    status = int(labels[4])
    if status >= _CLIENT_ERROR:
        total[_COUNTS + (status >= _SERVER_ERROR)] += sum(numbers[:_COUNTS])


def _add_state(found: dict[str, Samples], service: Service) -> None:
    """Add the state of a service's breaker and instances: each worker knows it, so it is not summed."""
    if service.breaker is not None:
        state = service.breaker.snapshot().state
        found[CIRCUIT_STATE.name][service.name,] = (_STATES[state],)
    if service.concurrency is not None:
        found[CONCURRENCY_LIMIT.name][service.name,] = (float(service.concurrency.limit),)
    asked = {instance.id for instance in service.fleet.candidates()}
    for instance in service.instances:
        found[INSTANCE_UP.name][service.name, instance.id] = (float(instance.id in asked),)
