"""The portable edge: the same pipeline as an ASGI app, for any ASGI server and for mounting in another app.

Here the server parses and frames the messages. The edge writes the scope as a request head again and reads it with the
same code as the fast edge. So both edges refuse the same requests, even if the server is lenient.

    server ── scope ────► head ───► pipeline ──► respond, start, write ──► _queue ──► send ──► server
           ── receive ──► Body ───► upstream

The exchange is stepped without a task (`edge.turn`). Two coroutines serve it: `deliver` runs in the server's task and
sends what the exchange queues; `_receive_body` has a task of its own, which starts only when it is needed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from propylon.edge.asgi_request import head_of, origin_of, read_request
from propylon.edge.asgi_server import AsgiServer, restore_peer, start_message
from propylon.edge.body import Body
from propylon.edge.sockets import ends_from
from propylon.edge.state import EdgeState
from propylon.edge.turn import Turn
from propylon.errors import (
    BadResponse,
    ClientGone,
    GatewayError,
    RequestTimeout,
)
from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from propylon.loop.ticker import NEVER
from propylon.proxy.exchange import Exchange
from propylon.upstream.ports import Answer, Flow
from propylon.wire.glimpse import glimpse
from propylon.wire.headers import without
from propylon.wire.message import CHUNKED, Request, Response
from propylon.wire.proxy_header import Ends

__all__ = ["AnswerCut", "AsgiTurn", "serve", "serve_turn"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Bytes queued for a slow `send` before the upstream is paused: the high-water mark of asyncio and uvicorn.
_HIGH_WATER = 64 * 1024
# An ASGI app learns that the client has left only by calling `receive`, and that takes a task. Most exchanges are over
# sooner than this, in seconds, and never start one.
_WATCH_DISCONNECT_AFTER = 0.25
_BODILESS = frozenset({204, 304})
_NOT_MODIFIED = 304


class AnswerCut(ConnectionAbortedError):
    """The answer was broken off. Raised into the server, so that it cuts the connection."""


async def serve(edge: EdgeState, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one ASGI HTTP request. Raises AnswerCut."""
    restore_peer(scope, receive)
    http1 = scope.get("http_version", "1.1")[0] == "1"
    own = dict(scope)
    # Servers log the scope's query: uvicorn does so for each request. A token or a private value may stand in it.
    scope["query_string"] = b""
    await serve_turn(edge, own, AsgiTurn(edge, own, receive, http1=http1), send)


async def serve_turn(edge: EdgeState, scope: Scope, turn: AsgiTurn, send: Send) -> None:
    """Serve a request from its scope, unless there are too many already. Raises AnswerCut."""
    origin = turn.origin
    refused = edge.crowd.enter(origin)
    try:
        if refused is not None:
            turn.reject(refused)
        else:
            _begin(edge, scope, turn)
        await turn.deliver(send)
    finally:
        edge.crowd.leave(origin, refused)


def _begin(edge: EdgeState, scope: Scope, turn: AsgiTurn) -> None:
    try:
        request = read_request(edge, scope)
    except GatewayError as error:
        turn.reject(error, glimpse(head_of(scope), error))
        return
    if turn.origin.trusted:
        turn.origin = edge.trust.refine(turn.origin, request)
    turn.expect(request)
    turn.run(edge.pipeline.handle(request, turn))


class AsgiTurn(Turn):
    """One exchange behind an ASGI server: its `Downstream`, and the `Flow` that its request's body comes from.

    `deadline` is first the moment to start watching for a disconnect, then the end of the client's time for its body.
    """

    __slots__ = (
        "_client_gone",
        "_content_length",
        "_cut",
        "_edge",
        "_flow",
        "_flow_paused",
        "_http1",
        "_method",
        "_output_ready",
        "_queue",
        "_queued_bytes",
        "_reading_resumed",
        "_receive",
        "_receive_task",
        "_scope",
        "_server",
        "body",
        "bytes_out",
        "closes",
        "complete",
        "deadline",
        "origin",
        "started",
    )

    def __init__(self, edge: EdgeState, scope: Scope, receive: Receive, *, http1: bool) -> None:
        super().__init__()
        self._scope = scope
        self.origin = origin_of(edge, scope)
        self.body: Body | None = None
        self.started = False
        self.closes = False
        self.bytes_out = 0
        self.complete = False
        self.deadline = NEVER
        self._edge = edge
        self._receive = receive
        self._server = AsgiServer(receive)
        self._http1 = http1
        self._method = ""
        # The answer: queued by the exchange, sent by `deliver`
        self._content_length = -1  # negative: not announced
        self._flow: Flow | None = None  # what streams the answer's body
        self._flow_paused = False
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._output_ready: asyncio.Future[None] | None = None  # `deliver` waits for it
        self._cut = False
        self._client_gone = False  # then no cut is needed
        # The request's body: received by a task
        self._receive_task: asyncio.Task[None] | None = None
        # Not None while the upstream has paused the body; the receiving task waits for it.
        self._reading_resumed: Signal[None] | None = None

    @property
    def ends(self) -> Ends:
        """The two ends of the client's connection, as the server knows them."""
        return ends_from(self._scope.get("client"), self._scope.get("server"))

    def expect(self, request: Request) -> None:
        """Prepare for the request and its body, if it has one."""
        # A WebSocket has a scope of its own; no other protocol can be tunnelled through an ASGI server.
        request.upgrade = b""
        self._method = request.method
        if request.length > 0 or request.length == CHUNKED:
            self.body = Body(request.length, self, None)

    def reject(self, error: GatewayError, seen: Request | None = None) -> None:
        """Answer with the error, without asking an upstream; `seen` is what could be read of the request."""
        self._edge.pipeline.reject(error, self, seen)
        self.over = True

    async def deliver(self, send: Send) -> None:
        """Send what the exchange queues, until it is over. Raises AnswerCut."""
        edge = self._edge
        if not self.over:
            edge.ticker.watch(self)
            if self.deadline == NEVER:
                self.deadline = edge.ticker.now + _WATCH_DISCONNECT_AFTER
        try:
            while True:
                await self._send_all(send)
                if self.over or self._cut:
                    break
                self._output_ready = edge.loop.create_future()
                await self._output_ready
        except OSError:
            # ASGI 2.4: `send` raises it when the client has left.
            self._client_left()
        finally:
            edge.ticker.forget(self)
            # If the server cancels this task, because it stops, the upstream request has to end too.
            self.throw(ClientGone("The server cancelled the request"))
            if self._receive_task is not None:
                self._receive_task.cancel()
        if self._cut and not self._client_gone:
            msg = "the answer broke off"
            raise AnswerCut(msg)

    async def _send_all(self, send: Send) -> None:
        queue = self._queue
        while queue:
            message = queue.popleft()
            await send(message)
            if self._queued_bytes:
                self._queued_bytes -= len(message.get("body", b""))
                self._resume_flow_if_drained()

    def _resume_flow_if_drained(self) -> None:
        if self._flow_paused and not self._queued_bytes and self._flow is not None:
            self._flow_paused = False
            self._flow.resume()

    def _client_left(self) -> None:
        self._client_gone = True
        self._server.give_up()
        self.throw(ClientGone("The client closed the connection"))

    # Downstream

    def respond(self, head: Response, block: bytes, body: bytes) -> None:
        """Queue a whole answer, without its body where the client expects none. Raises ClientGone."""
        self._notice_departure()
        if head.status in _BODILESS or self._method == "HEAD":
            body = b""
        self.started = self.complete = True
        self.bytes_out = len(body)
        if head.status == _NOT_MODIFIED:
            # RFC 9110, 8.6 allows it, but the server would wait for that many bytes.
            block = without(block, [b"content-length"])
        if self.closes and self._http1:
            # The server obeys it: a request that was pipelined behind a refusal must not be answered.
            block += b"\r\nConnection: close"
        self._queue.append(start_message(head, block, self._server.adds))
        self._enqueue({"type": "http.response.body", "body": body, "more_body": False})

    def start(self, head: Response, block: bytes) -> None:
        """Queue the head; the server chooses how the body is framed. Raises ClientGone."""
        self._notice_departure()
        self.started = True
        self._content_length = head.length
        self._enqueue(start_message(head, block, self._server.adds))

    def attach(self, flow: Flow) -> None:
        """Pause `flow` while `send` is slow."""
        self._flow = flow

    def write(self, data: bytes) -> None:
        """Queue a piece of the body, and pause the upstream if too much is queued."""
        if not data:
            return
        self.bytes_out += len(data)
        self._queued_bytes += len(data)
        self._enqueue({"type": "http.response.body", "body": data, "more_body": True})
        if self._queued_bytes > _HIGH_WATER and self._flow is not None and not self._flow_paused:
            self._flow_paused = True
            self._flow.pause()

    def finish(self, trailers: bytes = b"") -> None:  # noqa: ARG002 — dropped: RFC 9110, 6.5.1
        """End the body; cut the connection if the answer is not as long as its Content-Length."""
        self._flow = None
        if self._content_length >= 0 and self._content_length != self.bytes_out:
            self.abort()
            return
        self.complete = True
        self._enqueue({"type": "http.response.body", "body": b"", "more_body": False})

    def interim(self, head: Response) -> None:
        """Drop the 1xx answer: ASGI has no message for it."""

    def abort(self) -> None:
        """Make the server cut the connection: `deliver` will raise AnswerCut."""
        self._cut = True
        self._flow = None
        self._wake_deliver()

    def _notice_departure(self) -> None:
        if not self._client_gone and self._server.client_is_gone:
            self._client_gone = True
            self._server.give_up()
            msg = "The client closed the connection"
            raise ClientGone(msg)

    def _enqueue(self, message: Message) -> None:
        self._queue.append(message)
        self._wake_deliver()

    def _wake_deliver(self) -> None:
        ready, self._output_ready = self._output_ready, None
        if ready is not None and not ready.done():
            ready.set_result(None)

    async def upgrade(
        self, exchange: Exchange, answer: Answer, block: bytes  # noqa: ARG002 — the port's contract
    ) -> None:
        """Refuse: an ASGI server keeps its connection, and hands over WebSockets alone. Raises BadResponse."""
        answer.abort()
        msg = "The server cannot change to this protocol"
        raise BadResponse(msg, reason="upgrade: only the fast edge tunnels other protocols")

    @property
    def unsent(self) -> int:
        """How many bytes are queued for `send`."""
        return self._queued_bytes

    @property
    def overfull(self) -> bool:
        """Whether so much is queued for `send` that the upstream has to wait."""
        return self._queued_bytes > _HIGH_WATER

    # Turn

    def ended(self) -> None:
        """Let `deliver` return, or raise AnswerCut if the answer is not complete."""
        if not self.complete:
            self._cut = True
        self._wake_deliver()

    def crashed(self) -> None:
        """Make the server cut the connection: how much of the answer was sent is unknown."""
        self.abort()

    # Flow: the request's body

    def expire(self) -> None:
        """Act on the deadline: the body did not come in time, or it is time to watch for a disconnect."""
        if self._server.client_is_gone:
            self._client_left()
            return
        if self._receive_task is not None and self.body is not None and not self.body.complete:
            self.throw(RequestTimeout("The body of the request did not arrive in time"))
        self._start_receiving()
        self._set_deadline()

    def pause(self) -> None:
        """Stop calling `receive`: the upstream cannot take more of the body."""
        if self._reading_resumed is None:
            self._reading_resumed = Signal()
            self.deadline = NEVER

    def resume(self) -> None:
        """Call `receive` again: the upstream can take more of the body."""
        resumed, self._reading_resumed = self._reading_resumed, None
        if resumed is not None:
            resumed.set(None)
        self._start_receiving()
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._reading_resumed is not None:
            self.deadline = NEVER  # the upstream is slow, not the client
        elif self.body is not None and not self.body.complete:
            self.deadline = self._edge.loop.time() + self._edge.body_timeout
        elif self._receive_task is not None:
            self.deadline = self._edge.ticker.now + _WATCH_DISCONNECT_AFTER

    def _start_receiving(self) -> None:
        if self._receive_task is None and not self.over:
            self._receive_task = spawn(self._receive_body())

    async def _receive_body(self) -> None:
        """Feed the body with what the server receives, and end the exchange when the client leaves."""
        while not self.over:
            if self._reading_resumed is not None:
                await self._reading_resumed
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._client_left()
                return
            body = self.body
            if body is None or body.complete:
                continue
            try:
                body.feed(message.get("body", b""))
                if not message.get("more_body", False):
                    body.end()
                self._set_deadline()
            except GatewayError as error:
                self.throw(error)
