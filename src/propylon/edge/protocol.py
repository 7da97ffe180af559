"""The fast path: our own protocol class under uvicorn (`Config(http=GatewayProtocol)`).

    bytes ─┬► head ──► Turn ──► pipeline        one exchange at a time; pipelined requests wait
           └► body ──► Body ──► upstream

The contract with uvicorn: the constructor's four arguments, `shutdown()`, the sets in `server_state`;
the core arrives through the lifespan state.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

from propylon.edge.body import Body
from propylon.edge.http1 import FastTurn
from propylon.edge.linger import LingeringClose
from propylon.edge.sockets import reset_on_close, unsent
from propylon.edge.state import STATE_KEY, EdgeState
from propylon.errors import ClientGone, GatewayError, InvalidRequest, RequestTimeout
from propylon.loop.ticker import NEVER
from propylon.proxy.exchange import Origin
from propylon.wire.buffer import HeadBuffer
from propylon.wire.framing import BodyReader, FramingError
from propylon.wire.message import NO_BODY, Request
from propylon.wire.request import HeadReader

__all__ = ["GatewayProtocol"]

# What may wait behind an exchange in flight before the socket is no longer read.
_PIPELINE_LIMIT = 64 * 1024
_BURST = 16  # pipelined requests that are answered before others on the loop get a turn
# A client that has shut down its sending side, but whose answer has not begun: gone, most likely.
_HALF_CLOSED_TIME = 1.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CALL = 0.1  # how long an idle connection stays open in a stop, for a request on its way


class GatewayProtocol(asyncio.Protocol):
    """One client's connection."""

    __slots__ = (
        "_advancing",
        "_body",
        "_edge",
        "_eof",
        "_framing",
        "_heads",
        "_lingering",
        "_loop",
        "_origin",
        "_outbox",
        "_pipelined",
        "_reader",
        "_reading",
        "_server_state",
        "_transport",
        "_turn",
        "_unsent",
        "congested",
        "deadline",
        "last",
    )

    def __init__(
        self,
        config: Any,  # noqa: ARG002 — uvicorn's contract
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take uvicorn's four arguments."""
        self._edge: EdgeState = app_state[STATE_KEY]
        self._server_state = server_state
        self._loop = _loop or asyncio.get_event_loop()
        self._outbox = self._edge.outbox
        # Per connection
        self._reader = HeadReader()
        self._heads = HeadBuffer(self._edge.max_header)
        self._transport: asyncio.Transport | None = None
        self._origin = Origin("", "", "http", b"")
        self.deadline = NEVER
        self.congested = False  # the client reads more slowly than we write
        self.last = self._edge.draining  # the connection ends with the exchange in flight
        self._reading = True
        self._eof = False
        self._unsent = 0  # bytes, when it was last looked at
        self._lingering: LingeringClose | None = None
        self._advancing = False
        # Per request
        self._pipelined = bytearray()  # what came behind the exchange in flight
        self._turn: FastTurn | None = None
        self._body: Body | None = None
        self._framing = BodyReader(0)

    def __repr__(self) -> str:
        """Tell what it is doing, for logs and tests."""
        return f"<GatewayProtocol {self._origin.peer} {self._turn and self._turn.request}>"

    # asyncio.Protocol: the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who is there, and start the clock for the first head."""
        # uvloop's transports are no subclass of asyncio's, but have all it has.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self._server_state.connections.add(self)
        peer = transport.get_extra_info("peername")
        name = str(peer[0]) if isinstance(peer, tuple) else ""
        scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._origin = self._edge.trust.origin(name.partition("%")[0], scheme)
        self._edge.ticker.watch(self)
        self.deadline = self._loop.time() + self._edge.header_timeout

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Cancel what was under way: nobody is left to read it."""
        self._transport = None
        self._edge.ticker.forget(self)
        self._server_state.connections.discard(self)
        turn, self._turn = self._turn, None
        self._body = None
        if turn is not None and not turn.over:
            turn.throw(ClientGone("The client closed the connection"))

    def eof_received(self) -> bool:
        """Keep a half-closed client for a moment: `printf … | nc` wants its answer, too."""
        self._eof = True
        if self._body is not None:
            return False  # half a request: nothing can come of it
        turn = self._turn
        if turn is not None and not turn.started:
            self._loop.call_later(_HALF_CLOSED_TIME, self._give_up, turn)
        return turn is not None or bool(self._pipelined)

    def _give_up(self, turn: FastTurn) -> None:
        if turn is self._turn and not turn.started:
            turn.throw(ClientGone("The client closed the connection"))

    def shutdown(self) -> None:
        """Close when the exchange in flight is over; soon, if there is none.

        Not at once: a request may be on its way already, and a close would answer it with a reset.
        """
        self.last = True
        self._loop.call_later(_LAST_CALL, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._turn is None and self._lingering is None and self._transport is not None:
            self._transport.close()

    def expire(self) -> None:
        """Act on the silence of a head, a body, a reader, or nobody."""
        turn = self._turn
        if self.congested or self._transport is None or self._transport.is_closing():
            self._expire_reader()
        elif turn is None and self._heads.pending:
            self._reject(RequestTimeout("The head of the request did not arrive in time"))
        elif turn is None:
            self._transport.close()
        else:
            turn.throw(RequestTimeout("The body of the request did not arrive in time"))

    def _set_deadline(self) -> None:
        """Wait for what is due now: a reader, a body, nothing of the client's, a head, a request."""
        edge = self._edge
        if self.congested or (self._body is not None and self._reading):
            self.deadline = edge.ticker.now + edge.body_timeout
        elif self._turn is not None:
            self.deadline = NEVER
        elif self._heads.pending:
            self.deadline = edge.ticker.now + edge.header_timeout
        else:
            self.deadline = edge.ticker.now + edge.idle_timeout

    def _expire_reader(self) -> None:
        """Cut a client that reads nothing; one that reads slowly has more time."""
        transport = self._transport
        if transport is None:
            return
        before, self._unsent = self._unsent, unsent(transport)
        if 0 < self._unsent < before:
            self.deadline = self._loop.time() + self._edge.body_timeout
            return
        if self._turn is not None:
            self._turn.throw(ClientGone("The client does not read its answer"))
        else:
            self.cut(reset=False)

    # asyncio.Protocol: input

    def data_received(self, data: bytes) -> None:
        """Read on: a head, a body, or what has to wait."""
        if self._body is not None:
            self._receive_body(self._body, data)
        elif self._lingering is not None:
            self._lingering.discard(data)
        elif self._turn is None and not self.congested and not self._pipelined:
            again = not self._heads.pending and len(data) <= self._edge.max_header
            request = self._reader.again(data) if again else None
            if request is None:
                self._receive_head(data)
            else:
                self._serve(request, b"")
        else:
            self._pipelined += data
            if len(self._pipelined) > _PIPELINE_LIMIT:
                self._pause_reading()

    def _receive_head(self, data: bytes) -> None:
        """Read on in a head; the clock for it starts with its first byte."""
        begins = not self._heads.pending
        try:
            found = self._heads.feed(data)
        except GatewayError as error:
            self._reject(error)
            return
        if found is not None:
            self._begin(*found)
        elif begins:
            end = self._loop.time() + self._edge.header_timeout
            self.deadline = min(self.deadline, end)

    # The exchange

    def _begin(self, head: bytes, rest: bytes) -> None:
        """Start an exchange with a complete head; `rest` came behind it."""
        try:
            request = self._reader.read(head)
        except GatewayError as error:
            self._reject(error)
        else:
            self._serve(request, rest)

    def _serve(self, request: Request, rest: bytes) -> None:
        self.deadline = NEVER
        origin = self._origin
        if origin.trusted:
            origin = self._edge.trust.refine(origin, request)
        self._turn = turn = FastTurn(self, origin, request)
        if request.length not in (NO_BODY, 0):
            body = self._expect_body(turn, request)
            if rest:
                self._receive_body(body, rest)
        elif rest:
            self._pipelined += rest
        if turn.complete:
            self.turn_over(turn)
        else:
            turn.run(self._edge.pipeline.handle(request, turn))

    def _expect_body(self, turn: FastTurn, request: Request) -> Body:
        wanted = partial(self.send, _CONTINUE) if request.expects_continue else None
        self._body = turn.body = body = Body(request.length, self, wanted)
        self._framing = BodyReader(request.length)
        self.deadline = self._loop.time() + self._edge.body_timeout
        return body

    def _receive_body(self, body: Body, data: bytes) -> None:
        self.deadline = self._edge.ticker.now + self._edge.body_timeout
        framing = self._framing
        try:
            piece = framing.feed(data)
            if piece:
                body.feed(piece)
            if framing.done:
                self._end_body(body, framing)
        except FramingError as error:
            self._fail(InvalidRequest("The body of the request is malformed", reason=str(error)))
        except GatewayError as error:
            self._fail(error)

    def _end_body(self, body: Body, framing: BodyReader) -> None:
        rest = framing.rest
        self._body = None
        self._set_deadline()
        self._pipelined += rest
        if len(rest) > _PIPELINE_LIMIT:
            self._pause_reading()
        else:
            self._resume_reading()
        body.end(framing.trailers)

    def _fail(self, error: GatewayError) -> None:
        """End the exchange in flight because of its own body."""
        turn = self._turn
        self._body = None
        if turn is None:
            return
        turn.closes = True
        if turn.begun:
            turn.throw(error)
        else:
            # The body's beginning came with the head, and is wrong: nothing goes to an upstream.
            self._edge.pipeline.reject(error, turn, turn.request)

    def _reject(self, error: GatewayError) -> None:
        """Answer what is no request, and close: where the next one begins is unknown."""
        self._heads.clear()
        self._turn = turn = FastTurn(self, self._origin, None)
        self._edge.pipeline.reject(error, turn)
        self.turn_over(turn)

    def turn_over(self, turn: FastTurn) -> None:
        """Close, or go on to the next request."""
        if turn is not self._turn:
            return
        self._turn = None
        if self._transport is None or self._transport.is_closing():
            return
        if not turn.complete:
            self.cut(reset=True)
        elif turn.closes or self.last or (self._eof and not self._pipelined):
            self._close_gently(turn)
        else:
            self._set_deadline()
            if self._pipelined:
                self._advance()
            elif not self._reading:
                self._resume_reading()

    def _advance(self) -> None:
        """Answer what was pipelined, a few at a time."""
        if self._advancing:
            return  # the loop below is already on the stack
        self._advancing = True
        for _ in range(_BURST):
            if self._turn is not None or not self._pipelined or self._transport is None:
                break
            if self.congested:
                break  # answers that nobody reads must not pile up
            data = bytes(self._pipelined)
            self._pipelined.clear()
            self._receive_head(data)
        else:
            self._loop.call_soon(self._advance)
        self._advancing = False
        if self._turn is None and self._eof and not self._pipelined:
            self.shutdown()  # half a head, and nothing more to come
        elif self._turn is None:
            self._resume_reading()

    # Output

    def send(self, data: bytes) -> None:
        """Write, if there is anybody to read it."""
        if self._transport is not None:
            self._outbox.write(self._transport, data)

    def cut(self, *, reset: bool) -> None:
        """Close at once; `reset` tells the client that what it has is not all."""
        transport = self._transport
        if transport is None:
            return
        self._outbox.flush()  # what the client was told so far stands
        if reset:
            reset_on_close(transport)
        transport.abort()

    def _close_gently(self, turn: FastTurn) -> None:
        """Close so that the answer arrives: while input keeps coming, a plain close is a reset."""
        transport = self._transport
        if transport is None:
            return
        self._outbox.flush()
        self._pipelined.clear()  # whatever was pipelined behind is never answered
        unread = turn.request is None or (turn.body is not None and not turn.body.complete)
        self._body = None
        self._unsent = unsent(transport)
        self.deadline = self._loop.time() + self._edge.body_timeout
        if not unread or self._eof or not transport.can_write_eof():
            transport.close()
            return
        self._lingering = LingeringClose(transport, self._loop)
        self._resume_reading()

    # Flow control

    def pause_writing(self) -> None:
        """Have the upstream wait for this client, though not for ever."""
        self.congested = True
        self._loop.call_soon(self._look)  # when all of this turn has been written
        self._set_deadline()
        if self._turn is not None:
            self._turn.pause()

    def _look(self) -> None:
        if self._transport is not None:
            self._unsent = unsent(self._transport)

    def resume_writing(self) -> None:
        """Let the upstream go on."""
        self.congested = False
        self._set_deadline()
        if self._turn is not None:
            self._turn.resume()
        else:
            self._advance()

    def pause(self) -> None:
        """Stop reading the request's body: the upstream is slow."""
        self._pause_reading()
        self._set_deadline()

    def resume(self) -> None:
        """Go on reading the request's body."""
        self._resume_reading()
        self._set_deadline()

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
