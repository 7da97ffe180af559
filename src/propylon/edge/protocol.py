"""The fast edge: one client's HTTP/1 connection, run by uvicorn (`Config(http=GatewayProtocol)`).

    IDLE ──first byte──► HEAD ──empty line──► BODY ──last byte──► ANSWER       (no body: HEAD ──► ANSWER)
     ▲                    │ refused            │ answered early     │ answered, or broken off
     │                    ▼                    ▼                    ▼
     │              ┌───────────────────── exchange_ended ─────────────────────┐
     └─ kept alive ─┘                  must close │                 broken off └──► cut
                                                  └──► LINGER ──► closed

    state    how to tell                      `deadline`                            when it has passed
    IDLE     no `_turn`, no byte of a head    `idle_timeout`; at first, as in HEAD  close
    HEAD     no `_turn`, a part of a head     `header_timeout` from its first byte  408
    BODY     `_turn` and `_body`              `body_timeout` from the last piece    408; cut if the answer has begun
    ANSWER   `_turn`, no `_body`              none: the upstream has its timeouts
    LINGER   `_lingering`, or closing         `body_timeout`                        cut, unless the client reads

- One exchange at a time. What the client sends behind it is pipelined: it waits as bytes in `_pipelined`.
- `last`: the process stops. The exchange in flight, or else the next one, answers `Connection: close` and is the last.
- `congested`: the client reads more slowly than the gateway writes. The upstream is paused and no pipelined request
  begins. The deadline is a slow reader's in every state: `body_timeout`, renewed as long as the client reads.
- `_reading` is False while the upstream is too slow for the body (no deadline then), or too much is pipelined.
- `_half_closed`: the client has sent a FIN. It may still wait for its answer.
- `_refused`: the connection is one too many. It waits in LINGER for its first bytes, and is answered 503.
- `switch`: client and upstream have agreed on another protocol. `edge.websocket` has the connection from then on.
- `deadline` is a time of the loop's clock. The ticker sets it to NEVER before it calls `expire`.

Re-entrance. `turn.run` and `turn.throw` step the pipeline, which may answer at once: `exchange_ended` is then called
before they return, and may begin the next exchange. So they come last in each method. `turn.run`, `body.feed` and
`body.end` call the upstream, which may call `pause` and `resume`. `send` may call `pause_writing`. A transport never
calls `data_received` or `connection_lost` while we call it.

uvicorn's contract: the constructor's arguments, `shutdown()`, membership in `server_state.connections`. The pipeline
comes with the lifespan state.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

from propylon.edge.arrival import arrival
from propylon.edge.body import Body
from propylon.edge.crowd import TurnedAway
from propylon.edge.http1 import Http1Turn
from propylon.edge.linger import LingeringClose
from propylon.edge.sockets import ends_of, reset_on_close
from propylon.edge.state import SOURCE_KEY, STATE_KEY, EdgeState
from propylon.edge.websocket import Opened, open_tunnel
from propylon.errors import (
    ClientGone,
    GatewayError,
    InvalidRequest,
    RequestTimeout,
    TooManyConnections,
)
from propylon.loop.sendqueue import unsent
from propylon.loop.ticker import NEVER
from propylon.proxy.exchange import Exchange, Origin
from propylon.upstream.handshakes import Switched
from propylon.wire.buffer import HeadBuffer
from propylon.wire.framing import BodyReader, FramingError
from propylon.wire.glimpse import glimpse
from propylon.wire.message import NO_BODY, Request
from propylon.wire.proxy_header import Ends
from propylon.wire.request import HeadReader

__all__ = ["GatewayProtocol"]

# Pipelined bytes at which the socket is no longer read: the high-water mark of asyncio and uvicorn.
_MAX_PIPELINED = 64 * 1024
# Pipelined requests that are served before the loop runs other callbacks. Without a bound, one client's burst of cheap
# requests starves the other connections (Envoy: `http.max_requests_per_io_cycle`).
_MAX_PIPELINED_AT_ONCE = 16
# Seconds in which the answer to a half-closed client has to begin. nginx takes the FIN for an abort (499), which it
# mostly is; but `printf … | nc` half-closes too, and waits for its answer.
_HALF_CLOSED_TIME = 1.0
# Seconds for which an answer to a half-closed client may then be silent; `idle` of most answers is as long. A quiet event
# stream has nothing to write, so nothing else would find out soon that its client has left.
_HALF_CLOSED_SILENCE = 30.0
# Seconds that an idle connection stays open in a stop. A request that is already on its way would meet a reset
# (RFC 9112, 9.5; nginx: `keepalive_min_timeout`).
_SHUTDOWN_GRACE = 0.1
# Seconds in which a client has to begin its request on a connection that is one too many. A client that connects when
# it has a request, as nearly all do, needs a round trip.
_TURNED_AWAY_TIME = 2.0
# Seconds after which an idle connection forgets its last head. Its head is then read again, once.
_DOZE = 5.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class GatewayProtocol(asyncio.Protocol):
    """One client's connection: reads requests, hands them to the pipeline, and keeps the connection's rules."""

    __slots__ = (
        "_body",
        "_body_reader",
        "_edge",
        "_half_closed",
        "_head_buffer",
        "_head_reader",
        "_heard",
        "_lingering",
        "_loop",
        "_origin",
        "_outbox",
        "_pipelined",
        "_reading",
        "_refused",
        "_server_state",
        "_serving_pipelined",
        "_source",
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
        """Take the arguments that uvicorn passes to a protocol class."""
        self._edge: EdgeState = app_state[STATE_KEY]
        self._server_state = server_state
        self._loop = _loop or asyncio.get_event_loop()
        self._outbox = self._edge.outbox
        # Per connection
        self._head_reader = HeadReader()
        self._head_buffer = HeadBuffer(self._edge.max_header)
        self._transport: asyncio.Transport | None = None  # None: not connected yet, or lost
        self._origin = Origin("", "", "http", b"")
        self._source: str | None = app_state.get(SOURCE_KEY)
        self.deadline = NEVER
        self.congested = False
        self.last = self._edge.draining
        self._reading = True
        self._half_closed = False
        self._heard = 0  # bytes of the answer, when the half-closed client was last checked
        self._unsent = 0  # bytes, when the slow reader was last checked
        self._lingering: LingeringClose | TurnedAway | None = None
        self._refused: TooManyConnections | None = None  # this connection is one too many
        self._pipelined = bytearray()
        self._serving_pipelined = False  # `_serve_pipelined` is on the stack
        # Per exchange
        self._turn: Http1Turn | None = None
        self._body: Body | None = None  # while it comes in
        self._body_reader = BodyReader(0)

    def __repr__(self) -> str:
        """Tell what it is doing, for logs and tests."""
        return f"<GatewayProtocol {self._origin.peer} {self._turn and self._turn.request}>"

    # The connection: asyncio and uvicorn call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find the peer's address, and start the time for the first head."""
        # uvloop's transports are no subclass of asyncio's, but have the same methods.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self._server_state.connections.add(self)
        self._origin = arrival(transport, self._edge.trust, self._source)
        self._edge.ticker.watch(self)
        self.deadline = self._loop.time() + self._edge.header_timeout
        self._refused = self._edge.crowd.enter(self._origin)
        if self._refused is not None:
            self._turn_away(self._refused)

    def _turn_away(self, error: TooManyConnections) -> None:
        """Answer with the error when the first bytes come; close at once if too many wait for that."""
        if self._edge.crowd.is_overrun:
            self.cut(reset=False)
        self._lingering = TurnedAway(partial(self._reject, error))
        self.deadline = self._loop.time() + _TURNED_AWAY_TIME

    @property
    def ends(self) -> Ends:
        """The two ends of the connection, looked up when a service is to be told of them."""
        return ends_of(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Cancel the exchange in flight: the client cannot read its answer."""
        self._transport = None
        self._edge.ticker.forget(self)
        self._server_state.connections.discard(self)
        self._edge.crowd.leave(self._origin, self._refused)
        turn, self._turn = self._turn, None
        self._body = None
        if turn is not None and not turn.over:
            turn.throw(ClientGone("The client closed the connection"))

    def eof_received(self) -> bool:
        """Return True if the half-closed client may still get its answer."""
        self._half_closed = True
        if self._body is not None:
            return False  # the request will never be complete
        # The TLS transports of asyncio and uvloop (uvicorn's `--ssl-certfile`; `edge.tls` is ours) close both directions,
        # and log a line of their own if they are asked not to.
        if self._transport is None or not self._transport.can_write_eof():
            return False
        turn = self._turn
        if turn is not None and not turn.started:
            self._loop.call_later(_HALF_CLOSED_TIME, self._cancel_unless_started, turn)
        self._heard = 0 if turn is None else turn.bytes_out
        self._set_deadline()
        return turn is not None or bool(self._pipelined)

    def _cancel_unless_started(self, turn: Http1Turn) -> None:
        if turn is self._turn and not turn.started:
            turn.throw(ClientGone("The client closed the connection"))

    def shutdown(self) -> None:
        """Close when the exchange in flight has ended, or after a short grace if the connection is idle."""
        self.last = True
        self._loop.call_later(_SHUTDOWN_GRACE, self._close_if_idle)

    def _close_if_idle(self) -> None:
        """Close, unless an exchange or an answer is under way, or a head: its client may take its time for that."""
        if self._turn is not None or self._lingering is not None or self._transport is None:
            return
        if self._half_closed or not self._head_buffer.pending:
            self._transport.close()

    # Deadlines: the ticker calls

    def expire(self) -> None:
        """Act on the deadline that has passed: of a slow reader, a head, an idle connection, or a body."""
        turn = self._turn
        lingering = self._lingering is not None
        if lingering or self.congested or self._transport is None or self._transport.is_closing():
            self._expire_slow_reader()
        elif turn is None and self._head_buffer.pending:
            self._reject(RequestTimeout("The head of the request did not arrive in time"))
        elif turn is None:
            self._expire_idle(self._transport)
        elif self._half_closed:
            self._expire_half_closed(turn)
        else:
            turn.throw(RequestTimeout("The body of the request did not arrive in time"))

    def _set_deadline(self) -> None:
        edge = self._edge
        if self.congested or (self._body is not None and self._reading):
            self.deadline = edge.ticker.now + edge.body_timeout
        elif self._turn is not None:
            self.deadline = edge.ticker.now + _HALF_CLOSED_SILENCE if self._half_closed else NEVER
        elif self._head_buffer.pending:
            self.deadline = edge.ticker.now + edge.header_timeout
        else:
            idle = edge.idle_timeout
            # What the connection remembers goes first: `_expire_idle`.
            dozes = idle > _DOZE and self._head_reader.fields is not None
            self.deadline = edge.ticker.now + (_DOZE if dozes else idle)

    def _expire_idle(self, transport: asyncio.Transport) -> None:
        """Forget the last head, which is most of an idle connection's memory, and wait for the rest of the time; then close."""
        rest = self._edge.idle_timeout - _DOZE
        if rest > 0 and self._head_reader.fields is not None:
            self._head_reader = HeadReader()
            self.deadline = self._edge.ticker.now + rest
        else:
            transport.close()

    def _expire_half_closed(self, turn: Http1Turn) -> None:
        """Cancel an answer that has been silent since the last check: its client has most likely left."""
        before, self._heard = self._heard, turn.bytes_out
        if before == self._heard:
            turn.throw(ClientGone("The client closed the connection"))
        else:
            self._set_deadline()

    def _expire_slow_reader(self) -> None:
        """Cut a client that has read nothing since the last check (nginx: `send_timeout`); else give it more time."""
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

    # Input: heads and bodies

    def data_received(self, data: bytes) -> None:
        """Take what the client sent: a piece of a body or a head, or what has to wait or is thrown away."""
        if self._body is not None:
            self._receive_body(self._body, data)
        elif self._lingering is not None:
            self._lingering.discard(data)
        elif self._turn is None and not self.congested and not self._pipelined:
            # The fast path: a whole head with the same header lines as the last one.
            reader = self._head_reader
            begins = not self._head_buffer.pending
            limit = self._edge.max_header if begins else 0
            if (request := reader.again(data, limit)) is not None:
                self._begin_exchange(request, data[reader.size :])
            elif (request := reader.at_once(data, limit)) is not None:
                self._begin_exchange(request, b"")
            else:
                self._receive_head(data, begins=begins)
        else:
            self._pipelined += data
            if len(self._pipelined) > _MAX_PIPELINED:
                self._pause_reading()

    def _receive_head(self, data: bytes, *, begins: bool) -> None:
        """Take the next bytes of a head; `begins` with its first ones."""
        try:
            found = self._head_buffer.feed(data)
        except GatewayError as error:
            self._reject(error, self._head_buffer.so_far)
            return
        if found is not None:
            self._read_head(*found)
        elif begins:
            # For the whole head: a client that sends it byte by byte (slowloris) gains no time.
            end = self._loop.time() + self._edge.header_timeout
            self.deadline = min(self.deadline, end)

    def _read_head(self, head: bytes, rest: bytes) -> None:
        try:
            request = self._head_reader.read(head)
        except GatewayError as error:
            self._reject(error, head)
        else:
            self._begin_exchange(request, rest)

    def _reject(self, error: GatewayError, head: bytes = b"") -> None:
        """Answer a head that could not be read, and close: where the next request begins is unknown."""
        self._lingering = None
        seen = glimpse(head, error)
        self._head_buffer.clear()
        self._turn = turn = Http1Turn(self, self._origin, None)
        self._edge.pipeline.reject(error, turn, seen)
        self.exchange_ended(turn)

    def _receive_body(self, body: Body, data: bytes) -> None:
        self.deadline = self._edge.ticker.now + self._edge.body_timeout
        reader = self._body_reader
        try:
            piece = reader.feed(data)
            if piece:
                body.feed(piece)
            if reader.done:
                self._end_body(body, reader)
        except FramingError as error:
            self._fail_body(
                InvalidRequest("The body of the request is malformed", reason=str(error))
            )
        except GatewayError as error:
            self._fail_body(error)

    def _end_body(self, body: Body, reader: BodyReader) -> None:
        rest = reader.rest
        self._body = None
        self._set_deadline()
        self._pipelined += rest
        if len(rest) > _MAX_PIPELINED:
            self._pause_reading()
        else:
            self._resume_reading()
        body.end(reader.trailers)

    def _fail_body(self, error: GatewayError) -> None:
        turn = self._turn
        self._body = None
        if turn is None:
            return
        turn.closes = True
        if turn.begun:
            turn.throw(error)
        else:
            # The first piece came with the head, and is wrong: no upstream is asked.
            self._edge.pipeline.reject(error, turn, turn.request)

    # The exchange: from its head to the next one

    def _begin_exchange(self, request: Request, rest: bytes) -> None:
        """Hand the request to the pipeline; `rest` came behind its head."""
        self.deadline = NEVER
        origin = self._origin
        if origin.trusted:
            origin = self._edge.trust.refine(origin, request)
        self._turn = turn = Http1Turn(self, origin, request)
        if request.length not in (NO_BODY, 0):
            body = self._expect_body(turn, request)
            if rest:
                self._receive_body(body, rest)
        elif rest:
            self._pipelined += rest
        if turn.complete:  # refused by `_fail_body`
            self.exchange_ended(turn)
        else:
            turn.run(self._edge.pipeline.handle(request, turn))

    def _expect_body(self, turn: Http1Turn, request: Request) -> Body:
        send_continue = partial(self.send, _CONTINUE) if request.expects_continue else None
        self._body = turn.body = body = Body(request.length, self, send_continue)
        self._body_reader = BodyReader(request.length)
        self.deadline = self._loop.time() + self._edge.body_timeout
        return body

    def exchange_ended(self, turn: Http1Turn) -> None:
        """Cut the connection if the answer was broken off; else close it, or go on to the next request."""
        if turn is not self._turn:
            return
        self._turn = None
        if self._transport is None or self._transport.is_closing():
            return
        if not turn.complete:
            self.cut(reset=True)
        elif turn.closes or self.last or (self._half_closed and not self._pipelined):
            self._close_after_answer()
        else:
            self._set_deadline()
            if self._pipelined:
                self._serve_pipelined()
            elif not self._reading:
                self._resume_reading()

    def _serve_pipelined(self) -> None:
        """Serve pipelined requests until one has to wait; after a few, let other connections have their turn."""
        if self._serving_pipelined:
            return  # an exchange ended at once: the loop below goes on, instead of a recursion
        self._serving_pipelined = True
        for _ in range(_MAX_PIPELINED_AT_ONCE):
            if self._turn is not None or not self._pipelined or self._transport is None:
                break
            if self.congested:
                break  # the client does not read: its answers must not pile up in memory
            data = bytes(self._pipelined)
            self._pipelined.clear()
            self._receive_head(data, begins=not self._head_buffer.pending)
        else:
            self._loop.call_soon(self._serve_pipelined)
        self._serving_pipelined = False
        if self._turn is None and self._half_closed and not self._pipelined:
            self.shutdown()  # the client has sent half a head and a FIN
        elif self._turn is None:
            self._resume_reading()

    def switch(self, exchange: Exchange, answer: Switched, block: bytes) -> Opened:
        """Leave the connection to the protocol that client and upstream have agreed on.

        Raises ClientGone or ConnectFailed, and keeps the connection then.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self._half_closed:
            answer.abort()
            msg = "The client closed the connection"
            raise ClientGone(msg)
        self._outbox.flush()
        self._resume_reading()
        connections = self._server_state.connections
        early = bytes(self._pipelined)
        opened = open_tunnel(self._edge, transport, exchange, answer, block, early, connections)
        opened.leave = partial(self._edge.crowd.leave, self._origin, None)
        connections.discard(self)
        self._edge.ticker.forget(self)
        self._transport = self._turn = None
        return opened

    # Output and the close

    def send(self, data: bytes) -> None:
        """Write `data` to the client, unless the client has left."""
        if self._transport is not None:
            self._outbox.write(self._transport, data)

    def cut(self, *, reset: bool) -> None:
        """Close at once; with `reset` the client sees that the answer is not complete."""
        transport = self._transport
        if transport is None:
            return
        self._outbox.flush()  # an answer that is already queued still goes out
        if reset:
            reset_on_close(transport)
        transport.abort()

    def _close_after_answer(self) -> None:
        """Close; linger first, for the client may still be sending, and a reset would destroy the answer."""
        transport = self._transport
        if transport is None:
            return
        self._outbox.flush()
        self._pipelined.clear()  # RFC 9112, 9.6: after `Connection: close` no request is processed
        self._body = None
        self._unsent = unsent(transport)
        self.deadline = self._loop.time() + self._edge.body_timeout
        # asyncio's and uvloop's TLS cannot half-close. It discards what still comes by itself, until the client has closed.
        if self._half_closed or not transport.can_write_eof():
            transport.close()
            return
        self._lingering = LingeringClose(transport, self._loop, partial(unsent, transport))
        self._resume_reading()

    # Flow control: the transport calls when the client reads slowly, the body when the upstream does

    def pause_writing(self) -> None:
        """Pause the upstream until the client has read some of the answer, or its time is over."""
        self.congested = True
        self._loop.call_soon(self._record_unsent)  # once the outbox has written everything
        self._set_deadline()
        if self._turn is not None:
            self._turn.pause()

    def _record_unsent(self) -> None:
        if self._transport is not None:
            self._unsent = unsent(self._transport)

    def resume_writing(self) -> None:
        """Let the upstream go on, or the pipelined requests."""
        self.congested = False
        self._set_deadline()
        if self._turn is not None:
            self._turn.resume()
        else:
            self._serve_pipelined()

    def pause(self) -> None:
        """Stop reading the request's body: the upstream is slow."""
        self._pause_reading()
        self._set_deadline()

    def resume(self) -> None:
        """Read the request's body again."""
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
