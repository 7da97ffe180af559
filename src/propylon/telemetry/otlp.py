"""Encode spans for a collector (OTLP, protobuf), with `opentelemetry-proto`: the extra `propylon[otel]`.

A span is encoded as soon as its exchange has ended: half a kilobyte that holds nothing of the exchange.

Fact. Two encoded messages, one behind the other, are their merge (protobuf's rule). So attributes that come again and again
are encoded once, and put behind what differs: a third of the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status

from propylon.telemetry.spans import Span, Value
from propylon.version import __version__

__all__ = ["Encoder", "rejected"]

# Of SpanFlags: that it is known whether the parent is another program's, and that it is.
_KNOWN, _REMOTE = 0x100, 0x200
# Attributes whose values hardly come again. What a client chooses must not push out what comes again.
_VARIED = frozenset(
    {
        "client.address",
        "http.request.method_original",
        "network.peer.address",
        "propylon.request_id",
        "server.address",
        "url.full",
        "url.path",
        "url.query",
        "user_agent.original",
    }
)
_MOST_PIECES = 4096


class Encoder:
    """Encodes spans for one resource; `offset` are the nanoseconds since 1970 at the zero of the pipeline's clock."""

    def __init__(self, resource: Mapping[str, str], offset: int) -> None:
        """Say in each message what the spans are of."""
        self.offset = offset
        self._resource = Resource(attributes=_attributes(resource))
        self._scope = InstrumentationScope(name="propylon", version=__version__)

    def span(self, span: Span) -> bytes:
        """Return a span, encoded."""
        varied: list[KeyValue] = []
        pieces = [b""]
        for key, value in span.attributes.items():
            if key in _VARIED:
                varied.append(KeyValue(key=key, value=_value(value)))
            else:
                pieces.append(_piece(key, value))
        encoded = trace_pb2.Span(
            trace_id=bytes.fromhex(span.trace_id.decode("ascii")),
            span_id=bytes.fromhex(span.span_id.decode("ascii")),
            parent_span_id=bytes.fromhex(span.parent.decode("ascii")),
            trace_state=span.state,
            name=span.name,
            kind=span.kind,  # type: ignore[arg-type] # the enumeration's number
            start_time_unix_nano=self._at(span.began),
            end_time_unix_nano=self._at(max(span.began, span.ended)),
            attributes=varied,
            flags=int(span.flags, 16) | _KNOWN | (_REMOTE if span.remote else 0),
        )
        for event in span.events:
            encoded.events.add(
                name=event.name,
                time_unix_nano=self._at(event.at),
                attributes=_attributes(event.attributes),
            )
        if span.failed:
            encoded.status.code = Status.STATUS_CODE_ERROR
        pieces[0] = encoded.SerializeToString()
        return b"".join(pieces)

    def message(self, spans: Iterable[bytes]) -> bytes:
        """Return the request that sends these spans."""
        scoped = ScopeSpans(scope=self._scope)
        add = scoped.spans.add
        for span in spans:
            add().MergeFromString(span)
        message = ExportTraceServiceRequest()
        message.resource_spans.append(ResourceSpans(resource=self._resource, scope_spans=[scoped]))
        encoded: bytes = message.SerializeToString()
        return encoded

    def _at(self, seconds: float) -> int:
        return int(seconds * 1e9) + self.offset


def rejected(body: bytes) -> tuple[int, str]:
    """Return how many spans a collector has rejected of a message that it took, and why. Raises ValueError."""
    answer = ExportTraceServiceResponse()
    try:
        answer.ParseFromString(body)
    except DecodeError as error:
        msg = "the answer is no ExportTraceServiceResponse"
        raise ValueError(msg) from error
    partial = answer.partial_success
    return partial.rejected_spans, partial.error_message


@lru_cache(maxsize=_MOST_PIECES, typed=True)
def _piece(key: str, value: Value) -> bytes:
    """Return a span that has only this attribute, encoded."""
    pair = KeyValue(key=key, value=_value(value))
    encoded: bytes = trace_pb2.Span(attributes=[pair]).SerializeToString()
    return encoded


def _attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=one) for one in value]))
