"""The portable path: the same core as an ASGI app, for any server and for mounting.

There the server owns the framing. What it hands over is written down as a head again and read by the
same code as on the fast path, so that both edges refuse the same requests and no server's leniency
becomes ours.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from propylon.edge.body import Body
from propylon.edge.state import EdgeState
from propylon.edge.turn import Turn
from propylon.errors import (
    ClientGone,
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    RequestTimeout,
)
from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from propylon.loop.ticker import NEVER
from propylon.proxy.exchange import Origin
from propylon.upstream.ports import Flow
from propylon.wire.headers import fields, without
from propylon.wire.message import CHUNKED, Request, Response

__all__ = ["AnswerCut", "serve"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What may lie between an upstream and a server whose `send` is slow.
_HIGH_WATER = 64 * 1024
# ASGI tells of a client that left only to those who ask, and asking takes a task: not for exchanges
# that are over before it would start.
_WATCH_AFTER = 0.25
_ORIGINS = 1024
# Methods whose request has a body even if no header says so: HTTP/2 needs neither of the two.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_BODILESS = frozenset({204, 304})
_NOT_MODIFIED = 304


class AnswerCut(ConnectionAbortedError):
    """The answer broke off: raised into the server so that it cuts the connection."""


async def serve(edge: EdgeState, scope: Scope, receive: Receive, send: Send) -> None:
    """Carry one ASGI HTTP request through the pipeline."""
    http1 = scope.get("http_version", "1.1")[0] == "1"
    turn = _AsgiTurn(edge, _origin(edge, scope), receive, http1=http1)
    try:
        request = _request(edge, scope)
    except GatewayError as error:
        edge.pipeline.reject(error, turn)
        turn.over = True
    else:
        if turn.origin.trusted:
            turn.origin = edge.trust.refine(turn.origin, request)
        turn.expect(request)
        turn.run(edge.pipeline.handle(request, turn))
    await turn.deliver(send)


def _origin(edge: EdgeState, scope: Scope) -> Origin:
    client = scope.get("client")
    key = (str(client[0]) if client else "", scope.get("scheme", "http"))
    origin = edge.origins.get(key)
    if origin is None:
        if len(edge.origins) >= _ORIGINS:
            edge.origins.clear()
        origin = edge.origins[key] = edge.trust.origin(*key)
    return origin


def _request(edge: EdgeState, scope: Scope) -> Request:
    """Write the scope down as a head and read that. Raises what `parse_request` raises."""
    method = scope["method"]
    target = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    root = scope.get("root_path", "").encode()
    if root and (target + b"/").startswith(root + b"/"):
        target = target[len(root) :] or b"/"
    if query := scope.get("query_string"):
        target = b"%b?%b" % (target, query)
    version = scope.get("http_version", "1.1")
    lines = b"".join([b"\r\n%b: %b" % pair for pair in scope["headers"]])
    if lines.count(b"\n") != len(scope["headers"]):
        msg = "A header holds a line end"  # no parser lets that pass; a server's own code might
        raise InvalidRequest(msg)
    if version[0] in "23" and method in _WITH_BODY and b"\r\ncontent-length:" not in lines:
        lines += b"\r\ntransfer-encoding: chunked"
    line = b"%b %b HTTP/%b" % (method.encode(), target, b"1.0" if version == "1.0" else b"1.1")
    if len(line) + len(lines) > edge.max_header:
        msg = f"The head of a request may have {edge.max_header} bytes at the most"
        raise HeadersTooLarge(msg)
    return edge.memory.read(line, lines)


class _AsgiTurn(Turn):
    """One exchange behind a server: its `Downstream`, and what its body comes from."""

    __slots__ = (
        "_cut",
        "_edge",
        "_flow",
        "_gone",
        "_http1",
        "_length",
        "_method",
        "_news",
        "_out",
        "_out_size",
        "_paused",
        "_pump_task",
        "_receive",
        "_room",
        "body",
        "bytes_out",
        "closes",
        "complete",
        "deadline",
        "origin",
        "started",
    )

    def __init__(self, edge: EdgeState, origin: Origin, receive: Receive, *, http1: bool) -> None:
        super().__init__()
        self.origin = origin
        self.body: Body | None = None
        self.started = False
        self.closes = False
        self.bytes_out = 0
        self.complete = False
        self.deadline = NEVER
        self._edge = edge
        self._receive = receive
        self._http1 = http1
        self._method = ""
        self._length = -1
        self._flow: Flow | None = None
        self._out: deque[Message] = deque()
        self._out_size = 0
        self._news: asyncio.Future[None] | None = None  # somebody waits for something to send
        self._room: Signal[None] | None = None  # the pump waits for the upstream
        self._paused = False
        self._pump_task: asyncio.Task[None] | None = None
        self._cut = False
        self._gone = False  # nobody is left whom a cut could tell anything

    def expect(self, request: Request) -> None:
        """Prepare for the request's body, if there will be one."""
        self._method = request.method
        if request.length > 0 or request.length == CHUNKED:
            self.body = Body(request.length, self, None)

    async def deliver(self, send: Send) -> None:
        """Send what the exchange produces until it is over. Raises AnswerCut."""
        edge = self._edge
        if not self.over:
            edge.ticker.watch(self)
            if self.deadline == NEVER:
                self.deadline = edge.ticker.now + _WATCH_AFTER
        try:
            while True:
                await self._send_all(send)
                if self.over or self._cut:
                    break
                self._news = edge.loop.create_future()
                await self._news
        except OSError:
            # ASGI 2.4: `send` raises it when the client has left.
            self._leave()
        finally:
            edge.ticker.forget(self)
            # Cancelled from outside (the server stops): the upstream must not go on alone.
            self.throw(ClientGone("The server cancelled the request"))
            if self._pump_task is not None:
                self._pump_task.cancel()
        if self._cut and not self._gone:
            msg = "the answer broke off"
            raise AnswerCut(msg)

    async def _send_all(self, send: Send) -> None:
        out = self._out
        while out:
            message = out.popleft()
            await send(message)
            if self._out_size:
                self._out_size -= len(message.get("body", b""))
                self._make_room()

    def _make_room(self) -> None:
        if self._paused and not self._out_size and self._flow is not None:
            self._paused = False
            self._flow.resume()

    def _leave(self) -> None:
        self._gone = True
        self.throw(ClientGone("The client closed the connection"))

    # Downstream

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Send a whole answer."""
        if head.status in _BODILESS or self._method == "HEAD":
            body = b""
        self.started = self.complete = True
        self.bytes_out = len(body)
        if head.status == _NOT_MODIFIED:
            # Allowed by RFC 9110, 15.4.5, but servers would wait for that many bytes.
            block = without(block, [b"content-length"])
        if self.closes and self._http1:
            # Servers obey it; what was pipelined behind a refusal must not be answered.
            block += b"\r\nConnection: close"
        self._out.append(_start(head, block))
        self._put({"type": "http.response.body", "body": body, "more_body": False})

    def start(self, head: Response, block: bytes) -> None:
        """Send the head; how the body is framed is up to the server."""
        self.started = True
        self._length = head.length
        self._put(_start(head, block))

    def attach(self, flow: Flow) -> None:
        """Pause `flow` while `send` is slow."""
        self._flow = flow

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if not data:
            return
        self.bytes_out += len(data)
        self._out_size += len(data)
        self._put({"type": "http.response.body", "body": data, "more_body": True})
        if self._out_size > _HIGH_WATER and self._flow is not None and not self._paused:
            self._paused = True
            self._flow.pause()

    def finish(self, trailers: bytes = b"") -> None:  # noqa: ARG002 — dropped: RFC 9110, 6.5.1
        """End the body; an answer that is not as long as it said is cut instead."""
        self._flow = None
        if self._length >= 0 and self._length != self.bytes_out:
            self.abort()
            return
        self.complete = True
        self._put({"type": "http.response.body", "body": b"", "more_body": False})

    def interim(self, head: Response) -> None:
        """Drop 1xx answers: ASGI has no message for them."""

    def abort(self) -> None:
        """Have the server cut the connection."""
        self._cut = True
        self._flow = None
        self._wake()

    def _put(self, message: Message) -> None:
        self._out.append(message)
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    # Turn

    def ended(self) -> None:
        """Let `deliver` come to its end."""
        if not self.complete:
            self._cut = True
        self._wake()

    def crashed(self) -> None:
        """Have the server cut the connection."""
        self.abort()

    # Where the request's body comes from

    def expire(self) -> None:
        """Start asking whether the client is still there; end a body that does not come."""
        if self._pump_task is not None and self.body is not None and not self.body.complete:
            self.throw(RequestTimeout("The body of the request did not arrive in time"))
        self._pump_on()

    def pause(self) -> None:
        """Ask the server for no more of the body."""
        if self._room is None:
            self._room = Signal()
            self.deadline = NEVER

    def resume(self) -> None:
        """Ask the server for more."""
        room, self._room = self._room, None
        if room is not None:
            room.set(None)
        self._pump_on()
        self._await_body()

    def _await_body(self) -> None:
        if self._room is not None:
            self.deadline = NEVER  # the upstream is slow, not the client
        elif self.body is not None and not self.body.complete:
            self.deadline = self._edge.loop.time() + self._edge.body_timeout
        elif self._pump_task is not None:
            self.deadline = NEVER

    def _pump_on(self) -> None:
        if self._pump_task is None and not self.over:
            self._pump_task = spawn(self._pump())

    async def _pump(self) -> None:
        """Hand on what the server receives; notice when the client leaves."""
        while not self.over:
            if self._room is not None:
                await self._room
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._leave()
                return
            body = self.body
            if body is None or body.complete:
                continue
            try:
                body.feed(message.get("body", b""))
                if not message.get("more_body", False):
                    body.end()
                self._await_body()
            except GatewayError as error:
                self.throw(error)


def _start(head: Response, block: bytes) -> Message:
    """Render the head for ASGI; what the upstream said is taken apart once for as long as it stays."""
    if block.startswith(head.block):
        if head.pairs is None:
            head.pairs = _pairs(head.block)
        headers = [*head.pairs, *_pairs(block[len(head.block) :])]
    else:
        headers = _pairs(block)
    return {"type": "http.response.start", "status": head.status, "headers": headers}


def _pairs(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in fields(block)]
