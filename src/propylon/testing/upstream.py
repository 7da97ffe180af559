"""What stands in for a service: a script of answers, or an ASGI app, behind uvicorn's own HTTP in memory."""

from __future__ import annotations

import asyncio
import json as codec
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from propylon.upstream.inprocess import ASGIApp

__all__ = ["Received", "Upstream"]

# Seconds. Longer than the gateway keeps an idle connection.
_KEEP_ALIVE = 3600


@dataclass(frozen=True, slots=True)
class Received:
    """A request as the service got it; `path` is decoded, `query` is as sent."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes

    def json(self) -> Any:
        """Return the body, decoded. Raises ValueError."""
        return codec.loads(self.body)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is answered."""

    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)
    body: bytes = b"{}"


@dataclass(slots=True)
class _Script:
    """What becomes of the next requests."""

    app: ASGIApp | None = None
    answer: _Answer = field(default_factory=_Answer)
    hangs: bool = False
    delay: float = 0.0  # seconds
    refused: int = 0  # connections


class Upstream:
    """A service in memory; all instances of the service are this one. It answers 200 and `{}` until told otherwise."""

    def __init__(self, name: str) -> None:
        """Stand in for the service of that name."""
        self.name = name
        # All requests in their order, probes and retries included.
        self.requests: list[Received] = []
        self._script = _Script()
        self._connections: list[asyncio.Transport] = []
        self._config: Config | None = None

    def reply(
        self,
        status: int = 200,
        *,
        json: Any = None,
        text: str | None = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer so from now on; with `json`, `text` or `content` as the body."""
        kind = "application/octet-stream"
        if text is not None:
            content, kind = text.encode(), "text/plain; charset=utf-8"
        elif json is not None:
            content, kind = codec.dumps(json).encode(), "application/json"
        fields = {key.lower(): value for key, value in (headers or {}).items()}
        if content:
            fields.setdefault("content-type", kind)
        lines = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in fields.items()]
        self._script.answer = _Answer(status, tuple(lines), content)
        self._script.app, self._script.hangs = None, False

    def use(self, app: ASGIApp) -> None:
        """Have an ASGI app answer from now on. Its lifespan does not run."""
        self._script.app, self._script.hangs = app, False

    def fail(self, times: int = 1) -> None:
        """Refuse the next connections, as a service that is not running. Connections that wait for a request end."""
        self._script.refused = times
        for transport in self._connections:
            transport.abort()
        self._connections.clear()

    def hang(self) -> None:
        """Take each request from now on, and answer none; `reply` or `use` ends it for later requests."""
        self._script.hangs = True

    def slow(self, seconds: float) -> None:
        """Wait so long on the test's clock before each answer from now on; 0: do not wait."""
        self._script.delay = seconds

    # For the network.

    def refuses(self) -> bool:
        """Tell whether the next connection is refused, and count it."""
        if self._script.refused <= 0:
            return False
        self._script.refused -= 1
        return True

    def accepted(self, transport: asyncio.Transport) -> None:
        """Remember an open connection; `transport` is the gateway's end."""
        self._connections = [one for one in self._connections if not one.is_closing()]
        self._connections.append(transport)

    def server(self, loop: asyncio.AbstractEventLoop) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        if self._config is None:
            self._config = Config(
                self._serve,
                interface="asgi3",
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE,
            )
            self._config.load()
        return HttpToolsProtocol(
            config=self._config, server_state=ServerState(), app_state={}, _loop=loop
        )

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        body = await _body_of(receive)
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        headers = Headers(raw=scope["headers"])
        self.requests.append(Received(scope["method"], path, query, headers, body))
        script = self._script
        if script.delay:
            await asyncio.sleep(script.delay)
        if script.hangs:
            await receive()  # until the gateway closes the connection
        elif script.app is not None:
            await script.app(scope, _again(body, receive), send)
        else:
            await _send(script.answer, send)


async def _body_of(receive: Any) -> bytes:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


def _again(body: bytes, receive: Any) -> Any:
    """Return a `receive` that begins with a body that was read already."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Any:
        return left.pop() if left else await receive()

    return replay


async def _send(answer: _Answer, send: Any) -> None:
    lines = [*answer.headers]
    if answer.status not in (204, 304) and b"content-length" not in dict(lines):
        lines.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": lines})
    await send({"type": "http.response.body", "body": answer.body})
