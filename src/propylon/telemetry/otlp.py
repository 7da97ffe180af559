"""Encode spans for a collector (OTLP, protobuf), with `opentelemetry-proto`: the extra `propylon[otel]`.

A span is encoded as soon as its exchange has ended: half a kilobyte that holds nothing of the exchange.

Facts. Two encoded messages, one behind the other, are their merge (protobuf's rule). So attributes that come again and again
are encoded once, and put behind what differs. What differs is few fields of three wire types, which are written here byte
by byte: the library's objects cost four times as much. A message is the spans' bytes, each behind its length: nothing is
decoded to be encoded again. What is rare (events, arrays, numbers that vary) is left to the library.

Protobuf's encoding: a field is a tag (number * 8 + wire type), and its value; texts, bytes and messages have their length
in front, seven bits a byte, the lowest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from struct import Struct

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
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
    {"http.request.method_original", "propylon.request_id", "url.full", "url.path", "url.query"}
)
# Those that a client chooses, and mostly chooses again: they have a memory of their own.
_CHOSEN = frozenset(
    {"client.address", "network.peer.address", "server.address", "user_agent.original"}
)
_MOST_CHOSEN = 512
_MOST_PIECES = 4096

# Fields of a span: kind (6), start (7) and end (8) in nanoseconds, flags (16), all of a fixed width; and its failure (15).
_FIXED = Struct("<BBBQBQHI")
_KIND, _BEGAN, _ENDED, _FLAGS = 6 << 3, 7 << 3 | 1, 8 << 3 | 1, 0x0185
_FAILED = trace_pb2.Span(status=Status(code=Status.STATUS_CODE_ERROR)).SerializeToString()
# Tags of what has its length in front. The rest stand in the formats: trace (0a), span (12), parent (22), attribute (4a).
_NAME, _KEY = b"\x2a", b"\x0a"
_RESOURCE_SPANS, _SCOPE_SPANS, _SPANS = b"\x0a", b"\x12", b"\x12"


class Encoder:
    """Encodes spans for one resource; `offset` are the nanoseconds since 1970 at the zero of the pipeline's clock."""

    def __init__(self, resource: Mapping[str, str], offset: int) -> None:
        """Say in each message what the spans are of."""
        self.offset = offset
        self._resource = ResourceSpans(
            resource=Resource(attributes=_attributes(resource))
        ).SerializeToString()
        self._scope = ScopeSpans(
            scope=InstrumentationScope(name="propylon", version=__version__)
        ).SerializeToString()

    def span(self, span: Span) -> bytes:
        """Return a span, encoded."""
        pieces = [
            b"\x0a\x10%b\x12\x08%b"  # trace and span, of 16 and 8 bytes
            % (
                bytes.fromhex(span.trace_id.decode("ascii")),
                bytes.fromhex(span.span_id.decode("ascii")),
            ),
            _name(span.name),
            _FIXED.pack(
                _KIND,
                span.kind,
                _BEGAN,
                self._at(span.began),
                _ENDED,
                self._at(max(span.began, span.ended)),
                _FLAGS,
                int(span.flags, 16) | _KNOWN | (_REMOTE if span.remote else 0),
            ),
        ]
        if span.parent:
            pieces.append(b"\x22\x08%b" % bytes.fromhex(span.parent.decode("ascii")))
        for key, value in span.attributes.items():
            pieces.append(_ENCODED_BY.get(key, _piece)(key, value))
        if span.state or span.events:
            pieces.append(self._rare(span))
        if span.failed:
            pieces.append(_FAILED)
        return b"".join(pieces)

    def message(self, spans: Iterable[bytes]) -> bytes:
        """Return the request that sends these spans."""
        pieces = [self._scope]
        for span in spans:
            pieces += (_SPANS, _length(len(span)), span)
        scoped = b"".join(pieces)
        return _part(_RESOURCE_SPANS, self._resource + _part(_SCOPE_SPANS, scoped))

    def _rare(self, span: Span) -> bytes:
        """Return what most spans do not have."""
        encoded = trace_pb2.Span(trace_state=span.state)
        for event in span.events:
            encoded.events.add(
                name=event.name,
                time_unix_nano=self._at(event.at),
                attributes=_attributes(event.attributes),
            )
        said: bytes = encoded.SerializeToString()
        return said

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


# Protobuf's encoding


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_LENGTHS = tuple(map(_varint, range(1 << 11)))


def _length(length: int) -> bytes:
    return _LENGTHS[length] if length < len(_LENGTHS) else _varint(length)


def _part(tag: bytes, value: bytes) -> bytes:
    """Return a field with its length in front."""
    return b"%b%b%b" % (tag, _length(len(value)), value)


@lru_cache(maxsize=_MOST_PIECES)
def _name(name: str) -> bytes:
    return _part(_NAME, name.encode())


# Attributes


@lru_cache(maxsize=_MOST_PIECES, typed=True)
def _piece(key: str, value: Value) -> bytes:
    """Return a span that has only this attribute, encoded."""
    pair = KeyValue(key=key, value=_value(value))
    encoded: bytes = trace_pb2.Span(attributes=[pair]).SerializeToString()
    return encoded


_KEYS = {key: _part(_KEY, key.encode()) for key in _VARIED}


def _varied(key: str, value: Value) -> bytes:
    """Return the same for a text of `_VARIED`, without a memory."""
    text = str(value).encode()
    length = len(text)
    size = _LENGTHS[length] if length < len(_LENGTHS) else _length(length)
    # An AnyValue is the text behind its tag and its length.
    pair = b"%b\x12%b\x0a%b%b" % (_KEYS[key], _length(1 + len(size) + length), size, text)
    length = len(pair)
    return b"\x4a%b%b" % (_LENGTHS[length] if length < len(_LENGTHS) else _length(length), pair)


_chosen = lru_cache(maxsize=_MOST_CHOSEN)(_piece.__wrapped__)
_ENCODED_BY: dict[str, Callable[[str, Value], bytes]] = {
    **dict.fromkeys(_VARIED, _varied),
    **dict.fromkeys(_CHOSEN, _chosen),
}


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
