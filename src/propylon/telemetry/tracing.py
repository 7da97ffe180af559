"""Follow exchanges for their traces: decide which are recorded, and hand their spans on when they have ended.

Cost. An exchange that is not recorded costs two calls and one small object. What a span is made of is known to the
exchange anyway, so nothing is kept while it is under way but what only a trace asks for: earlier attempts, policies. So the
decision can also be made at the end: by the status, and by the time that it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from propylon.proxy.exchange import Exchange, Notes
from propylon.proxy.route import Route
from propylon.proxy.trace import own_span
from propylon.telemetry.export import Exporter
from propylon.telemetry.sampling import SAMPLED, Keep, Sampling, bound, with_flag
from propylon.telemetry.spans import spans_of

# An extra: what only says `Server-Timing` does without it.
if TYPE_CHECKING:
    from propylon.telemetry.otlp import Encoder

__all__ = ["Recorder", "Tracer", "TracingRules"]

_ERROR = 500
# Calls of one endpoint that are held until it is known whether its exchange is kept.
_MOST_CALLS = 64
# Nanoseconds. The offset between the clocks is taken anew when it is off by more: somebody has set the clock.
_DRIFT = 1_000_000


@dataclass(frozen=True, slots=True)
class TracingRules:
    """What is recorded, and what answers say of the trace. `skip`: paths of which nothing is recorded."""

    sampling: Sampling = field(default_factory=Sampling)
    keep: Keep = field(default_factory=Keep)
    skip: frozenset[bytes] = frozenset()
    traceresponse: bool = False
    server_timing: bool = False


class Recorder:
    """Makes spans of exchanges, and hands them to the exporter."""

    def __init__(
        self,
        encoder: Encoder,
        exporter: Exporter,
        note: Callable[[Exchange], None],
    ) -> None:
        """`note` is told of each exchange that is recorded as a trace of its own: for exemplars."""
        self.exporter = exporter
        self._encoder = encoder
        self._note = note

    def record(self, exchange: Exchange, notes: Notes, calls: tuple[Exchange, ...]) -> None:
        """Record an exchange, with the calls that its endpoint has made."""
        self._set_clock()
        encode = self._encoder.span
        spans = [encode(span) for span in spans_of(exchange, notes)]
        for call in calls:
            if call.notes is not None:
                spans.extend(encode(span) for span in spans_of(call, call.notes))
        self.exporter.put(spans)
        if notes.caller is None:
            self._note(exchange)

    def _set_clock(self) -> None:
        offset = time.time_ns() - time.perf_counter_ns()
        if abs(offset - self._encoder.offset) > _DRIFT:
            self._encoder.offset = offset


class Tracer:
    """Fills the port `Tracing`; without a recorder it only says what answers are to say."""

    def __init__(
        self,
        rules: TracingRules,
        recorder: Recorder | None,
        *,
        clock: Callable[[], float],
        unkept: Callable[[], None],
    ) -> None:
        """`unkept` is called for each exchange that would be kept, if not too many of them had been."""
        self._sampling = rules.sampling
        self._keep = rules.keep
        self._skip = rules.skip
        self._says = rules.traceresponse or rules.server_timing
        self._rules = rules
        self.recorder = recorder
        self._clock = clock
        self._unkept = unkept
        self._bound = bound(rules.sampling.ratio)
        self._window, self._kept = 0.0, 0

    def begin(self, exchange: Exchange, parent: bytes) -> None:
        """Give the exchange its notes, and decide whether it is recorded."""
        if self.recorder is None:
            exchange.notes = Notes(self, parent, self._says)
            return
        request = exchange.request
        if request is not None and request.path in self._skip:
            exchange.trace_flags = with_flag(exchange.trace_flags, sampled=False)
            return
        exchange.notes = Notes(self, parent, self._says)
        if not parent:
            exchange.trace_flags = b"01" if exchange.trace_id[16:] < self._bound else b"00"
        elif not self._sampling.follows(exchange):
            self._decide(exchange, self._bound)

    def place(self, exchange: Exchange, route: Route) -> None:
        """Decide by what the route says; the same again, however often it is asked."""
        notes = exchange.notes
        if self.recorder is None or notes is None or notes.caller is not None:
            return
        if route.sampling is not None and not (notes.parent and self._sampling.follows(exchange)):
            self._decide(exchange, bound(route.sampling))

    def lines(self, exchange: Exchange) -> bytes:
        """Return the lines about the trace for the answer, which begins now."""
        said = b""
        if self._rules.traceresponse:
            said = b"\r\ntraceresponse: 00-%b-%b-%b" % (
                exchange.trace_id,
                own_span(exchange.entropy),
                exchange.trace_flags,
            )
        return said + self._timing(exchange) if self._rules.server_timing else said

    def end(self, exchange: Exchange) -> None:
        """Record an exchange that has ended, if it is one of those."""
        recorder, notes = self.recorder, exchange.notes
        if recorder is None or notes is None:
            return
        if notes.caller is not None:
            self._end_call(exchange, notes, notes.caller, recorder)
            return
        route = exchange.route
        if route is not None and route.sampling is not None:
            self.place(exchange, route)  # it may have been refused before that
        notes.over = True
        if exchange.trace_flags in SAMPLED or (
            # What nearly all exchanges are not: most of them end here.
            (exchange.status >= _ERROR or exchange.flags or self._keep.slower_than is not None)
            and self._keeps(exchange)
        ):
            recorder.record(exchange, notes, notes.calls)
        for call in notes.calls:
            if call.notes is not None:
                call.notes.caller = None  # no cycle stays for the garbage collector
        notes.calls = ()

    def _decide(self, exchange: Exchange, below: bytes) -> None:
        notes = exchange.notes
        # A client may have chosen the trace id, but not our span.
        of_client = notes is not None and notes.parent
        digits = exchange.entropy[64:] if of_client else exchange.trace_id[16:]
        exchange.trace_flags = with_flag(exchange.trace_flags, sampled=digits < below)

    def _end_call(
        self, exchange: Exchange, notes: Notes, caller: Exchange, recorder: Recorder
    ) -> None:
        above = caller.notes
        if exchange.trace_flags in SAMPLED:
            recorder.record(exchange, notes, ())
        elif above is not None and not above.over and len(above.calls) < _MOST_CALLS:
            above.calls += (exchange,)
            return
        notes.caller = None

    def _keeps(self, exchange: Exchange) -> bool:
        """Tell whether an exchange is recorded after all; of too many that fail, only some."""
        keep = self._keep
        failed = keep.errors and (exchange.status >= _ERROR or "cut" in exchange.flags)
        if not failed and (keep.slower_than is None or _seconds(exchange) < keep.slower_than):
            return False
        if exchange.ended - self._window >= keep.seconds:
            self._window, self._kept = exchange.ended, 0
        self._kept += 1
        if self._kept <= keep.most:
            return True
        self._unkept()
        return False

    def _timing(self, exchange: Exchange) -> bytes:
        """Return the line of Server-Timing, in milliseconds; a browser's tools show it."""
        now = self._clock()
        spent, upstream = now - exchange.began, 0.0
        if exchange.attempts:
            upstream = (exchange.answered or now) - exchange.upstream_began
        said = b"\r\nServer-Timing: gateway;dur=%.1f" % ((spent - upstream) * 1000)
        return said + (b", upstream;dur=%.1f" % (upstream * 1000) if exchange.attempts else b"")


def _seconds(exchange: Exchange) -> float:
    """Return how long it took to answer; a stream or a socket may last as long as it likes."""
    ended = exchange.answered if exchange.streams else 0.0
    return (ended or exchange.ended) - exchange.began
