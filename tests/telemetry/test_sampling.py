"""Which traces are recorded: the same ones as OpenTelemetry's own samplers record, and never by a client's choice."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)

from propylon.proxy.exchange import Exchange
from propylon.telemetry.sampling import SAMPLED, Keep, Parent, Sampling
from propylon.telemetry.tracing import Tracer, TracingRules
from tests.proxy.doubles import Client, request, route, service

RATIOS = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.01, 0.5])
DIGITS = st.integers(0, 2**64 - 1).map(lambda number: b"%016x" % number)


class Recorder:
    """Takes what is recorded."""

    def __init__(self) -> None:
        self.recorded: list[Exchange] = []

    def record(self, exchange: Exchange, *_: object) -> None:
        """Keep it."""
        self.recorded.append(exchange)


def tracer(recorder: Recorder, **rules: Any) -> Tracer:
    """A tracer whose clock stands still; `lost` are those that were not kept."""
    lost: list[None] = []
    made = Tracer(TracingRules(**rules), recorder, clock=lambda: 0.0, unkept=lambda: lost.append(None))  # type: ignore[arg-type]
    made.lost = lost  # type: ignore[attr-defined]
    return made


def begun(by: Tracer, digits: bytes = b"0" * 16, *, parent: bytes = b"", flags: bytes = b"01", own: bytes = b"8" * 16,
          trusted: bool = False, path: bytes = b"/a") -> Exchange:  # fmt: skip
    """An exchange of which the tracer knows; the trace id ends with the digits, our span is `own`."""
    exchange = Exchange(request(path), Client(trusted=trusted), b"a" * 64 + own, 10.0)
    exchange.trace_id, exchange.trace_flags = b"f" * 16 + digits, flags
    by.begin(exchange, parent)
    return exchange


def decision(sampler: Sampler, digits: bytes, flags: bytes | None) -> bool:
    """What OpenTelemetry decides."""
    context = None
    trace_id = int(b"f" * 16 + digits, 16)
    if flags is not None:
        span = trace.SpanContext(
            trace_id, 7, is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
        )
        context = trace.set_span_in_context(trace.NonRecordingSpan(span))
    return sampler.should_sample(context, trace_id, "x").decision is Decision.RECORD_AND_SAMPLE


@given(RATIOS, DIGITS)
def test_a_ratio_is_that_of_opentelemetry(ratio: float, digits: bytes) -> None:
    """Of a trace that begins here."""
    exchange = begun(tracer(Recorder(), sampling=Sampling(ratio)), digits)
    assert (exchange.trace_flags in SAMPLED) == decision(TraceIdRatioBased(ratio), digits, None)


@given(RATIOS, DIGITS, st.sampled_from([b"00", b"01"]), st.booleans())
def test_a_parent_that_is_followed_decides(
    ratio: float, digits: bytes, flags: bytes, root: bool
) -> None:
    """As by ParentBased: the parent's flag, else the ratio."""
    by = tracer(Recorder(), sampling=Sampling(ratio, "follow"))
    exchange = begun(by, digits, parent=b"" if root else b"7" * 16, flags=b"01" if root else flags)
    wanted = decision(ParentBased(TraceIdRatioBased(ratio)), digits, None if root else flags)
    assert (exchange.trace_flags in SAMPLED) == wanted


@pytest.mark.parametrize(("ratio", "sampler"), [(1.0, ALWAYS_ON), (0.0, ALWAYS_OFF)])
def test_the_ends_of_the_ratio(ratio: float, sampler: Sampler) -> None:
    """All is all, and none is none."""
    for digits in (b"0" * 16, b"f" * 16):
        exchange = begun(tracer(Recorder(), sampling=Sampling(ratio)), digits)
        assert (exchange.trace_flags in SAMPLED) == decision(sampler, digits, None)


@given(RATIOS, DIGITS, DIGITS, st.sampled_from([b"00", b"01", b"02", b"03"]))
def test_a_client_cannot_choose(ratio: float, digits: bytes, own: bytes, flags: bytes) -> None:
    """Neither by its flag nor by its trace id: our own span decides, and that the id is random stays said."""
    by = tracer(Recorder(), sampling=Sampling(ratio))
    exchange = begun(by, digits, parent=b"7" * 16, flags=flags, own=own)
    assert (exchange.trace_flags in SAMPLED) == decision(TraceIdRatioBased(ratio), own, None)
    assert int(exchange.trace_flags, 16) & 2 == int(flags, 16) & 2


@pytest.mark.parametrize(("parent", "trusted", "followed"), [
    ("ignore", True, False), ("trusted", False, False), ("trusted", True, True), ("follow", False, True)])  # fmt: skip
def test_who_is_trusted(parent: Parent, trusted: bool, followed: bool) -> None:
    """Nobody, trusted proxies, or everybody."""
    by = tracer(Recorder(), sampling=Sampling(0.0, parent))
    exchange = begun(by, parent=b"7" * 16, flags=b"01", trusted=trusted)
    assert (exchange.trace_flags in SAMPLED) == followed


def test_a_route_decides_for_itself() -> None:
    """Before it goes on, and also where it was refused before that; not over a parent that is followed."""
    recorder = Recorder()
    by = tracer(recorder, sampling=Sampling(0.0, "trusted"))
    exchange = begun(by)
    exchange.route = route(sampling=1.0)
    by.place(exchange, exchange.route)
    assert exchange.trace_flags == b"01"
    refused = begun(by)
    refused.route = route(sampling=1.0)
    by.end(refused)
    assert recorder.recorded == [refused]
    followed = begun(by, parent=b"7" * 16, flags=b"00", trusted=True)
    followed.route = route(sampling=1.0)
    by.end(followed)
    assert recorder.recorded == [refused]


def ended(
    by: Tracer, *, status: int = 200, took: float = 0.1, cut: bool = False, at: float = 20.0
) -> Exchange:
    """An exchange that was not chosen, and how it has ended."""
    exchange = begun(by, b"f" * 16)
    exchange.began, exchange.ended, exchange.status = at - took, at, status
    exchange.flags = ("cut",) if cut else ()
    by.end(exchange)
    return exchange


def test_what_failed_or_took_long_is_kept() -> None:
    """5xx, what was cut off, and what was slow; a stream is not slow because it is long."""
    recorder = Recorder()
    by = tracer(recorder, sampling=Sampling(0.0), keep=Keep(slower_than=1.0))
    kept = [ended(by, status=503), ended(by, cut=True), ended(by, took=1.5)]
    ended(by)
    ended(by, status=404)
    stream = begun(by, b"f" * 16)
    stream.began, stream.answered, stream.ended, stream.streams = 10.0, 10.1, 99.0, True
    by.end(stream)
    assert recorder.recorded == kept


def test_what_is_kept_has_a_bound() -> None:
    """While everything fails, some of each second are kept, and the others counted."""
    recorder = Recorder()
    by = tracer(recorder, sampling=Sampling(0.0), keep=Keep(most=2))
    for at in (50.0, 50.1, 50.2, 50.9, 51.5):
        ended(by, status=500, at=at)
    assert [one.ended for one in recorder.recorded] == [50.0, 50.1, 51.5]
    assert len(by.lost) == 2  # type: ignore[attr-defined]


def test_nothing_is_kept_of_what_is_skipped() -> None:
    """A probe that fails is the probe's business; the service is told that nothing is recorded."""
    by = tracer(Recorder(), skip=frozenset({b"/livez"}))
    exchange = begun(by, path=b"/livez")
    assert (exchange.notes, exchange.trace_flags) == (None, b"00")


def test_calls_go_with_their_endpoint() -> None:
    """They are held until it is known, and let go of then; a call that outlives its endpoint is not recorded."""
    recorder = Recorder()
    by = tracer(recorder, sampling=Sampling(0.0))
    of = service()
    above = begun(by, b"f" * 16)
    assert above.notes is not None

    def call() -> Exchange:
        one = begun(by, b"f" * 16)
        assert one.notes is not None
        one.route, one.notes.caller = route(of=of), above
        by.end(one)
        return one

    held = [call() for _ in range(70)]
    assert above.notes.calls == tuple(held[:64])
    above.status = 500
    by.end(above)
    late = call()
    assert (recorder.recorded, above.notes.calls) == ([above], ())
    assert all(one.notes is not None and one.notes.caller is None for one in [*held, late])
