"""One request to the gateway under test over a connection of its own, and the answer as users of httpx expect it."""

from __future__ import annotations

import asyncio
import json as codec
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urlencode

import h11
from starlette.datastructures import Headers

__all__ = ["ConnectionLost", "Response", "Talk", "request"]


class ConnectionLost(Exception):
    """The gateway closed the connection before its answer was complete."""


@dataclass(frozen=True, slots=True)
class Response:
    """The gateway's answer."""

    status_code: int
    headers: Headers
    content: bytes

    @property
    def text(self) -> str:
        """The body as text, in UTF-8."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body, decoded. Raises ValueError."""
        return codec.loads(self.content)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request: its head, and its body."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def request(
    method: str,
    path: str,
    *,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    data: Mapping[str, Any] | None = None,
    content: bytes = b"",
    token: str | None = None,
) -> Sent:
    """Return a request, by httpx's names; `data` is a form, `token` a bearer token."""
    fields = {"host": "testserver", "accept": "*/*"}
    if json is not None:
        content, fields["content-type"] = codec.dumps(json).encode(), "application/json"
    elif data is not None:
        content = urlencode(data, doseq=True).encode()
        fields["content-type"] = "application/x-www-form-urlencoded"
    if token is not None:
        fields["authorization"] = f"Bearer {token}"
    if content or method in ("POST", "PUT", "PATCH"):
        fields["content-length"] = str(len(content))
    fields.update({name.lower(): value for name, value in (headers or {}).items()})
    target = quote(path, safe="%/:?#[]@!$&'()*+,;=~")
    if params:
        target += ("&" if "?" in target else "?") + urlencode(params, doseq=True)
    return Sent(method, target, tuple(fields.items()), content)


class Talk(asyncio.Protocol):
    """The client's end of a connection, for one request."""

    def __init__(self, sent: Sent, answer: asyncio.Future[Response]) -> None:
        """Send `sent` once connected, and settle `answer`."""
        self._sent = sent
        self._answer = answer
        self._wire = h11.Connection(h11.CLIENT)
        self._head: h11.Response | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = transport = cast("asyncio.Transport", transport)
        sent = self._sent
        head = h11.Request(method=sent.method, target=sent.target, headers=list(sent.headers))
        data = self._wire.send(head) or b""
        if sent.body:
            data += self._wire.send(h11.Data(sent.body)) or b""
        transport.write(data + (self._wire.send(h11.EndOfMessage()) or b""))

    def data_received(self, data: bytes) -> None:
        """Read the answer."""
        self._wire.receive_data(data)
        self._read()

    def eof_received(self) -> None:
        """Read the rest: some answers end with the connection."""
        self._wire.receive_data(b"")
        self._read()

    def _read(self) -> None:
        try:
            event = self._wire.next_event()
            while event not in (h11.NEED_DATA, h11.PAUSED) and not self._answer.done():
                self._take(event)
                event = self._wire.next_event()
        except h11.RemoteProtocolError as error:
            self._lose(error)

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Response):
            self._head = event
        elif isinstance(event, h11.Data):
            self._body += event.data
        elif isinstance(event, h11.EndOfMessage) and self._head is not None:
            raw = [(bytes(name), bytes(value)) for name, value in self._head.headers]
            self._answer.set_result(Response(self._head.status_code, Headers(raw=raw), self._body))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so, if there was no answer."""
        self._lose(exc)

    def _lose(self, error: Exception | None) -> None:
        if not self._answer.done():
            lost = ConnectionLost(
                "the gateway closed the connection before its answer was complete"
            )
            lost.__cause__ = error
            self._answer.set_exception(lost)
