"""Spans as the collector reads them: the same bytes as OpenTelemetry's own, whatever secrets a client sends."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode

from propylon.errors import CircuitOpen, ClientGone, GatewayError, RateLimited, UpstreamReset
from propylon.proxy.exchange import Attempt, Exchange, Notes, PolicyRun
from propylon.proxy.principal import Principal
from propylon.proxy.route import PrivacyPreference
from propylon.telemetry.otlp import Encoder, rejected
from propylon.telemetry.redaction import redacted
from propylon.telemetry.spans import CLIENT, INTERNAL, SERVER, Attributes, Span, Value, spans_of
from propylon.version import __version__
from propylon.wire.request import parse_request
from tests.proxy.doubles import ENTROPY, Asked, Client, instance, request, route, service

OFFSET = 1_700_000_000_000_000_000
KINDS = {INTERNAL: SpanKind.INTERNAL, SERVER: SpanKind.SERVER, CLIENT: SpanKind.CLIENT}
RESOURCE = {"service.name": "edge", "service.version": "1"}


class Ids(IdGenerator):
    """Gives the ids of one span of ours."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def generate_span_id(self) -> int:
        """The span's."""
        return int(self._span.span_id, 16)

    def generate_trace_id(self) -> int:
        """The trace's."""
        return int(self._span.trace_id, 16)


def oracle(span: Span) -> Any:
    """The same span, told to OpenTelemetry's SDK and encoded by its exporter."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(
        resource=Resource(RESOURCE), id_generator=Ids(span), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(memory))
    context = None
    if span.parent:
        state = trace.TraceState.from_header([span.state]) if span.state else None
        above = trace.SpanContext(int(span.trace_id, 16), int(span.parent, 16), is_remote=span.remote,
                                  trace_flags=trace.TraceFlags(1), trace_state=state)  # fmt: skip
        context = trace.set_span_in_context(trace.NonRecordingSpan(above))
    made = provider.get_tracer("propylon", __version__).start_span(
        span.name, context, KINDS[span.kind], span.attributes, start_time=at(span.began)
    )
    for event in span.events:
        made.add_event(event.name, dict(event.attributes), at(event.at))
    if span.failed:
        made.set_status(Status(StatusCode.ERROR))
    made.end(at(span.ended))
    return encode_spans(memory.get_finished_spans())


def at(seconds: float) -> int:
    """Nanoseconds since 1970."""
    return int(seconds * 1e9) + OFFSET


def exchange(
    *lines: bytes, target: bytes = b"/a", method: bytes = b"GET", **options: Any
) -> Exchange:
    """An exchange that has ended well."""
    made = Exchange(request(target, *lines, method=method), Client(), b"%080x" % ENTROPY, 10.0)
    made.notes = Notes(None, b"", False)  # type: ignore[arg-type]
    made.trace_flags = b"01"
    made.route = route(of=service(Asked()), template="/a/{id}", **options)
    made.status = made.upstream_status = 200
    made.attempts, made.instance = 1, instance(Asked())
    made.upstream_began, made.answered, made.ended = 10.001, 10.25, 10.3
    return made


def spans(made: Exchange) -> list[Span]:
    """Its spans."""
    assert made.notes is not None
    return list(spans_of(made, made.notes))


def hostile() -> Exchange:
    """One with all that a span can have."""
    made = exchange(
        b"tracestate: a=1",
        b"User-Agent: \xff\x00".replace(b"\x00", b"!"),
        target=b"/%FFx?a=%00",
        method=b"PUT",
    )
    assert made.notes is not None
    made.notes.parent, made.trace_state = b"00f067aa0ba902b7", True
    made.notes.policies = (
        PolicyRun("hours", 10.0, 10.0005, ""),
        PolicyRun("barred", 10.0005, 10.001, "Forbidden"),
    )
    made.notes.attempts = (Attempt(instance(Asked()), 10.001, 10.1, 0, UpstreamReset("gone")),)
    made.notes.began, made.attempts, made.retried = 10.15, 2, ("reset",)
    made.limited, made.flags = ("burst",), ("stale_connection",)
    made.lines = b"\r\nX: y\r\nCache-Status: propylon; hit; ttl=7\r\nZ: 1"
    return made


@pytest.mark.parametrize("made", [exchange(), hostile()])
def test_spans_are_encoded_as_opentelemetry_does(made: Exchange) -> None:
    """Each of them, with resource and scope."""
    encoder = Encoder(RESOURCE, OFFSET)
    for span in spans(made):
        ours = ExportTraceServiceRequest.FromString(encoder.message([encoder.span(span)]))
        theirs = oracle(span)
        for message in (ours, theirs):
            one = message.resource_spans[0].scope_spans[0].spans[0]
            one.flags &= 0x300  # theirs leaves out the sampled flag, which OTLP has a place for
            one.status.SetInParent()  # ours leaves out an empty status
            one.attributes.sort(key=lambda pair: pair.key)  # which have no order
        assert ours == theirs


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
LONG = st.integers(0, 40_000).map("é".__mul__)
KEYS = st.sampled_from(["url.path", "url.query", "user_agent.original", "client.address", "a"])
VALUES = TEXTS | LONG | st.booleans() | st.integers(0, 1 << 40) | st.floats(0) | st.tuples(TEXTS)


@given(TEXTS, st.dictionaries(KEYS, VALUES), st.floats(0, 1e9), st.booleans(), st.booleans())
def test_any_span_is_what_the_library_makes_of_it(
    name: str, attributes: Attributes, began: float, has_parent: bool, failed: bool
) -> None:
    """Lengths of one byte, two and three, texts of any script: the library reads what was meant."""
    texts = {key: str(value) if "." in key else value for key, value in attributes.items()}
    span = Span(name, SERVER, b"ab" * 16, b"cd" * 8, b"ef" * 8 * has_parent, began, began + 1, texts, failed=failed)  # fmt: skip
    encoder = Encoder(RESOURCE, OFFSET)
    message = ExportTraceServiceRequest.FromString(encoder.message([b"", encoder.span(span)]))
    one = message.resource_spans[0].scope_spans[0].spans[1]
    assert (one.name, one.kind, one.flags & 0xFF) == (name, SERVER, 0)
    assert (one.trace_id, one.span_id) == (b"\xab" * 16, b"\xcd" * 8)
    assert one.parent_span_id == b"\xef" * 8 * has_parent
    assert one.start_time_unix_nano == int(began * 1e9) + OFFSET
    assert one.end_time_unix_nano == int((began + 1) * 1e9) + OFFSET
    assert one.status.code == 2 * failed
    assert {pair.key: read(pair.value) for pair in one.attributes} == texts


def read(value: AnyValue) -> Value:
    """Return what an AnyValue holds."""
    kind = value.WhichOneof("value")
    assert kind is not None
    if kind == "array_value":
        return tuple(one.string_value for one in value.array_value.values)
    held: Value = getattr(value, kind)
    return held


def test_many_spans_are_one_message() -> None:
    """One resource, one scope, and all spans in their order."""
    encoder = Encoder(RESOURCE, OFFSET)
    encoded = [encoder.span(span) for span in spans(hostile())]
    message = ExportTraceServiceRequest.FromString(encoder.message(encoded))
    (scoped,) = message.resource_spans[0].scope_spans
    names = [span.name for span in scoped.spans]
    assert names == ["PUT /a/{id}", "policy hours", "policy barred", "PUT", "PUT"]
    assert len({span.span_id for span in scoped.spans}) == len(names)


def test_what_the_collector_rejects() -> None:
    """A part of a message that it took; an answer that is none says so."""
    answer = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=3, error_message="too old")
    )
    assert rejected(answer.SerializeToString()) == (3, "too old")
    assert rejected(b"") == (0, "")
    with pytest.raises(ValueError, match="no ExportTraceServiceResponse"):
        rejected(b"<html>")


SECRETS = (
    b"Authorization: Bearer s3cret",
    b"Cookie: session=s3cret",
    b"X-Api-Key: s3cret",
    b"Proxy-Authorization: s3cret",
)
NAMES = ("AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature", "X-Amz-Signature", "X-Amz-Credential", "token",
         "access_token", "id_token", "api_key", "apikey", "key", "password", "client_secret", "code", "state", "s%69g",
         "X-Amz-Security-Token", "jwt", "auth", "session_id")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_is_in_a_span(name: str) -> None:
    """Neither of a header nor of a query, for the client's side and for the upstream's."""
    target = f"/a?page=2&{name}=s3cret&sort=up;{name.upper()}=s3cret".encode()
    made = exchange(*SECRETS, target=target)
    made.principal = Principal(subject="s3cret-user")
    told = spans(made)
    assert "s3cret" not in repr(told)
    assert all(f"page=2&{name}=REDACTED&sort=up" in repr(span) for span in told)


def test_a_token_is_none_under_any_name() -> None:
    """A JSON web token is known by how it begins, also where it stands alone."""
    assert redacted("?x=eyJhbGciOi.e.s&%65yJhbGci") == "?x=REDACTED&REDACTED"
    assert redacted("?design=1&page=2&monkey=3&x") == "?design=1&page=2&monkey=3&x"


@given(st.text(alphabet="abksig=&;?%41.", max_size=40))
def test_redaction_changes_values_alone(query: str) -> None:
    """Names and separators stay, in their order."""
    names = [piece.partition("=")[0] for piece in re.split("[?&;]", query)]
    assert [piece.partition("=")[0] for piece in re.split("[?&;]", redacted(query))] == names


@given(st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=30))
def test_nothing_that_a_client_sends_stops_it(path: bytes, value: bytes, host: bytes) -> None:
    """Whatever passes as a request becomes spans that can be encoded: an observer may not raise."""
    lines = (b"Host: " + host, b"User-Agent: " + value, b"tracestate: " + value)
    head = b"GET /" + path + b"?" + value + b" HTTP/1.1\r\n" + b"\r\n".join(lines)
    try:
        asked = parse_request(head + b"\r\n\r\n")
    except GatewayError:
        return
    made = exchange()
    made.request, made.trace_state = asked, True
    encoder = Encoder(RESOURCE, OFFSET)
    encoder.message([encoder.span(span) for span in spans(made)])


def test_privacy_leaves_the_query_out() -> None:
    """With `strict`, neither the query nor the browser is told."""
    made = exchange(b"User-Agent: shop", target=b"/a?who=ann")
    made.privacy = PrivacyPreference("strict", b"")
    assert "ann" not in repr(spans(made))
    assert "shop" not in repr(spans(made))


def test_an_unknown_method_is_other() -> None:
    """The name of a span is no place for what a client invents."""
    made = exchange(method=b"PROPFIND")
    own, attempt = spans(made)
    assert (own.name, attempt.name) == ("_OTHER /a/{id}", "_OTHER")
    assert own.attributes["http.request.method_original"] == "PROPFIND"


@pytest.mark.parametrize(("error", "status", "upstream", "failed", "kind"), [
    (None, 500, 500, True, "500"), (None, 404, 404, False, None), (UpstreamReset("x"), 502, 0, True, "UpstreamReset"),
    (ClientGone("x"), 499, 0, False, None), (RateLimited("x"), 429, 0, False, None), (CircuitOpen("x"), 503, 0, True, "CircuitOpen")])  # fmt: skip
def test_what_is_an_error(
    error: Any, status: int, upstream: int, failed: bool, kind: str | None
) -> None:
    """By the conventions: 5xx, and what went wrong; not what the client did, nor what it was refused."""
    made = exchange()
    made.error, made.status, made.upstream_status = error, status, upstream
    own = spans(made)[0]
    assert (own.failed, own.attributes.get("error.type")) == (failed, kind)


def test_an_attempt_at_a_4xx_is_an_error_of_the_client_side() -> None:
    """By the conventions for client spans; the server's span is none."""
    made = exchange()
    made.status = made.upstream_status = 404
    own, attempt = spans(made)
    assert (own.failed, attempt.failed, attempt.attributes["error.type"]) == (False, True, "404")


@pytest.mark.parametrize(
    "state", [b"a=1,a=2", b"=", b"A=1", b",".join(b"k%d=v" % n for n in range(33)), b"x" * 10_000]
)
def test_a_tracestate_that_is_none(state: bytes) -> None:
    """It is in no span."""
    made = exchange(b"tracestate: " + state)
    made.trace_state = True
    assert spans(made)[0].state == ""
