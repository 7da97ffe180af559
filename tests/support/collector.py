"""Play a collector: take spans by OTLP over HTTP, answer as it is told to, be away and come back."""

import contextlib
import gzip
import http.server
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.gateway import free_port
from tests.support.waiting import soon

__all__ = ["Collector", "Said", "facts"]


@dataclass
class Said:
    """One message that has come, whatever was answered."""

    path: str
    headers: dict[str, str]
    message: ExportTraceServiceRequest
    answered: int


@dataclass
class Collector:
    """A collector on a port of its own; `script` are the next answers: status, headers, body. Then it takes all."""

    port: int = field(default_factory=free_port)
    said: list[Said] = field(default_factory=list)
    script: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin to listen."""
        self._changed = threading.Condition()
        self._answering = threading.Lock()
        self._connections: list[socket.socket] = []
        self._server: http.server.ThreadingHTTPServer | None = None
        self.open()

    @property
    def url(self) -> str:
        """What is configured as the endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen, on the same port each time."""
        self._server = _Server(("127.0.0.1", self.port), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Go away: what was begun is answered, and nobody listens."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        with self._answering:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._connections.clear()

    def reset(self) -> None:
        """Forget what has come."""
        with self._changed:
            self.said.clear()
            self.script.clear()

    @property
    def taken(self) -> list[Said]:
        """The messages that were accepted."""
        with self._changed:
            return [one for one in self.said if one.answered == 200]

    def spans(self, trace_id: str = "") -> list[Span]:
        """All spans that were accepted; those of one trace."""
        found = [
            span
            for one in self.taken
            for resource in one.message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return [span for span in found if not trace_id or span.trace_id.hex() == trace_id]

    def wait_for(self, count: int) -> None:
        """Until so many spans have come."""
        assert soon(lambda: len(self.spans()) >= count)

    def wait(self, trace_id: str, names: list[str]) -> list[Span]:
        """The spans of a trace, as soon as there are as many as these names; they must be these."""
        soon(lambda: len(self.spans(trace_id)) >= len(names))
        found = self.spans(trace_id)
        assert Counter(span.name for span in found) == Counter(names)
        return [next(span for span in found if span.name == name) for name in names]

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                """Know the connection."""
                super().setup()
                collector._connections.append(self.connection)

            def do_POST(self) -> None:
                """Take a message, and answer it before anybody goes away."""
                with collector._answering:
                    if self.connection in collector._connections:
                        self._take()

            def _take(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                message = ExportTraceServiceRequest.FromString(body)
                with collector._changed:
                    script = collector.script
                    status, headers, answer = script.pop(0) if script else (200, {}, b"")
                    sent = {name.lower(): value for name, value in self.headers.items()}
                    collector.said.append(Said(self.path, sent, message, status))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        return Handler


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_plain(one) for one in value.array_value.values)
    return getattr(value, str(kind))


def facts(holder: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a resource."""
    return {pair.key: _plain(pair.value) for pair in holder.attributes}
