"""The trace that a request belongs to (W3C Trace Context): continued or begun, also where it is refused."""

import asyncio

import pytest

from propylon.errors import AuthError
from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import Principal
from propylon.wire.headers import values
from propylon.wire.message import Request
from tests.proxy.doubles import (
    ENTROPY,
    SPAN_ID,
    TRACE_ID,
    Asked,
    Client,
    Counting,
    request,
    route,
    run,
    service,
)

THEIRS = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00-%b-00f067aa0ba902b7-00" % THEIRS


def handled(*lines: bytes, **options: object) -> tuple[Exchange, Asked]:
    """One request through the pipeline: its exchange, and what the upstream got."""
    up, seen = Asked(), list[Exchange]()
    to = route(of=service(up), **options)
    pipeline = Pipeline(Table((to,)), (seen.append,), clock=Counting(), chance=lambda bits: ENTROPY)
    run(pipeline.handle(request(b"/a", *lines), Client()))
    return seen[0], up


def test_a_trace_is_continued() -> None:
    """The trace id and its flags stay, the span is ours, the state passes."""
    exchange, up = handled(b"traceparent: " + PARENT, b"tracestate: a=1", b"tracestate: b=2")
    block = up.got[0][1]
    assert values(block, b"traceparent") == [b"00-%b-%b-00" % (THEIRS, SPAN_ID)]
    assert values(block, b"tracestate") == [b"a=1", b"b=2"]
    assert (exchange.trace_id, exchange.trace_flags) == (THEIRS, b"00")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [PARENT.upper()],
        [b"ff" + PARENT[2:]],
        [b"01" + PARENT[2:] + b"x"],
        [PARENT[:-1]],
        [PARENT + b"-x"],
        [PARENT.replace(THEIRS, b"0" * 32)],
        [PARENT.replace(b"00f067aa0ba902b7", b"0" * 16)],
        [PARENT, PARENT],
        [PARENT + b"," + PARENT],
    ],
)
def test_a_trace_that_is_none_begins_anew(lines: list[bytes]) -> None:
    """An invalid parent is dropped, and its state with it (3.3)."""
    sent = [b"traceparent: " + line for line in lines] + [b"tracestate: a=1"]
    exchange, up = handled(*sent)
    block = up.got[0][1]
    assert values(block, b"traceparent") == [b"00-%b-%b-01" % (TRACE_ID, SPAN_ID)]
    assert values(block, b"tracestate") == []
    assert (exchange.trace_id, exchange.trace_flags) == (TRACE_ID, b"01")


async def refused(_: Request, client: str) -> Principal:
    """Let nobody in."""
    raise AuthError("no")


@pytest.mark.parametrize(
    ("lines", "trace"), [([], TRACE_ID), ([b"traceparent: " + PARENT], THEIRS)]
)
def test_a_refusal_belongs_to_the_trace(lines: list[bytes], trace: bytes) -> None:
    """The operator finds a refused request by the client's trace id."""
    exchange, up = handled(*lines, authenticate=refused)
    assert (exchange.status, exchange.trace_id, up.got) == (401, trace, [])


def test_a_head_that_cannot_be_read_has_a_trace() -> None:
    """Its record has an id as well."""
    seen: list[Exchange] = []
    pipeline = Pipeline(Table(()), (seen.append,), clock=Counting(), chance=lambda bits: ENTROPY)
    asyncio.run(_reject(pipeline))
    assert seen[0].trace_id == TRACE_ID


async def _reject(pipeline: Pipeline) -> None:
    pipeline.reject(AuthError("no"), Client())
