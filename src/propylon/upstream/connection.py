"""Carry one exchange at a time over one socket to an upstream.

    begin() ──► HEAD ──(final head)──► BODY ──(complete)──► idle again, or closed
                 │  ▲                   │
                 │  └─ 1xx              └─ cut short, silent, or abort(): closed
                 └─ closed, silent, nonsense: the signal fails

Rules. What could be read in two ways is a 502 and a closed connection. Bytes that come when none are
due (an unsolicited 408, a second answer) close it, too: they must never be paired with the next
request. It goes back to its pool only when both messages have ended, and cleanly.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from propylon.errors import (
    BadResponse,
    ClientGone,
    ConnectFailed,
    GatewayError,
    RequestTimeout,
    StaleConnection,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.loop.outbox import Outbox
from propylon.loop.signal import Signal
from propylon.loop.ticker import NEVER, Ticker
from propylon.upstream.ports import Answer, Outgoing, RequestBody, Sink
from propylon.upstream.reply import Reply
from propylon.wire.framing import HEAD_END, LAST_CHUNK, BodyReader, FramingError, announced, chunk
from propylon.wire.message import CHUNKED, NO_BODY, Response
from propylon.wire.response import ResponseReader

__all__ = ["Connection", "Keeper"]

_MAX_HEAD = 64 * 1024  # as a client's by default; nginx allows an upstream a quarter of it
# Nobody sends more than a few; an endless stream of 1xx is an upstream that never answers.
_MAX_INTERIM = 100
# An SSH or SMTP banner is not waited behind until the timeout.
_HTTP = b"HTTP/1."
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL_STATUS = 200
_CONTINUE = 100


class Keeper(Protocol):
    """Who owns the connection between exchanges."""

    def release(self, connection: Connection) -> None:
        """Take back a connection that is clean and open."""

    def discard(self, connection: Connection) -> None:
        """Note that the connection is gone."""

    def distrust(self, since: float) -> None:
        """Note that one that was idle since then was dead, without a word from the upstream."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection to an upstream."""

    def __init__(self, keeper: Keeper, ticker: Ticker, outbox: Outbox) -> None:
        """Belong to `keeper`; `ticker` watches `deadline` while the connection is open."""
        # Per connection
        self._keeper = keeper
        self._ticker = ticker
        self._outbox = outbox
        self._transport: asyncio.Transport | None = None
        self.deadline = NEVER
        self.idle_since = 0.0
        self.uses = 0
        self._paused = False
        self._held_back = False  # by the sink
        self._loss: Exception | None = None
        self._heads = ResponseReader()
        # Per exchange
        self._outgoing: Outgoing | None = None
        self._answered: Signal[Answer] | None = None  # set while the head is awaited
        self._reply: Reply | None = None  # set while the body is awaited
        self._ended: Signal[None] | None = None
        self._sink: Sink | None = None
        self._body: RequestBody | None = None
        self._sent = True  # the request has gone out whole
        self._buffer = b""
        self._held: list[bytes] = []
        self._reader: BodyReader | None = None
        self._interims = 0
        self._end = NEVER

    def __repr__(self) -> str:
        """Tell the state in a word, for logs and tests."""
        state = "idle" if self._transport is not None else "closed"
        if self._answered is not None:
            state = "awaiting head"
        elif self._reply is not None:
            state = "receiving body"
        return f"<Connection {state} uses={self.uses}>"

    @property
    def usable(self) -> bool:
        """Whether the next exchange may begin here, as far as anyone can know."""
        return self._transport is not None and not self._transport.is_closing()

    # The exchange

    def begin(self, outgoing: Outgoing, sink: Sink) -> Signal[Answer]:
        """Send the request; the signal brings the final answer's head. Raises ConnectFailed."""
        transport = self._transport
        if transport is None:
            # It spoke before it was asked, or hung up between two turns of the loop.
            msg = "The upstream closed the connection before it was asked"
            raise ConnectFailed(msg)
        self.uses += 1
        self._outgoing = outgoing
        self._sink = sink
        answered: Signal[Answer] = Signal(self._abandoned)
        self._answered = answered
        if outgoing.length == NO_BODY:
            self._outbox.write(transport, outgoing.line + outgoing.block + HEAD_END)
        else:
            framing = announced(outgoing.length)
            self._outbox.write(transport, outgoing.line + outgoing.block + framing + HEAD_END)
        timeouts = outgoing.timeouts
        now = self._ticker.now
        self._end = now + timeouts.max_duration
        body = outgoing.body
        if body is None:
            self.deadline = min(now + timeouts.first_byte, outgoing.deadline, self._end)
        else:
            self._sent = False
            self._body = body
            self.deadline = self._end
            outgoing.begin_sending()
            self._pipe(body)
        return answered

    def _pipe(self, body: RequestBody) -> None:
        piped = False
        try:
            body.pipe(self)
            piped = True
        finally:
            if not piped:
                self.abort()  # too large, it turns out: half a request must not stay here

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body of the answer to `sink`, what was held first."""
        reply = self._reply
        ended: Signal[None] = Signal(lambda _: reply.abort() if reply is not None else None)
        self._ended = ended
        self._sink = sink
        self._touch()
        held, self._held = self._held, []
        for data in held:
            self._receive_body(data)
        if self._reply is None or ended.done:
            return ended
        if self._transport is None:
            self._lost_body(self._loss)
        elif not self._held_back:
            self._read_on()
        return ended

    def pause(self) -> None:
        """Stop reading, as long as the client is slow."""
        self._held_back = True
        self._stop_reading()

    def resume(self) -> None:
        """Go on reading."""
        self._held_back = False
        self._read_on()

    def _stop_reading(self) -> None:
        if (transport := self._transport) is not None and not transport.is_closing():
            self._paused = True
            transport.pause_reading()
            self.deadline = self._end  # silence is not the upstream's fault meanwhile

    def _read_on(self) -> None:
        if (transport := self._transport) is not None and not transport.is_closing():
            self._paused = False
            transport.resume_reading()
            self._touch()

    def _abandoned(self, answer: Answer | None) -> None:
        """Close: whoever waited for the head has given up, or never took the answer."""
        if answer is None:
            self.abort()
        else:
            answer.abort()

    def abort(self) -> None:
        """Close at once, without waiting for what is in flight."""
        self._clear()
        transport, self._transport = self._transport, None
        if transport is not None:
            self._ticker.forget(self)
            self._keeper.discard(self)
            transport.abort()

    def expire(self) -> None:
        """End what has taken too long: an exchange, or an idle connection's life.

        What the client is slow at must not look like the upstream's failure: the breaker would open for all.
        """
        if self._answered is not None and self._is_still_sent_by_client():
            self._fail(RequestTimeout("The request did not arrive in time", reason="max_duration"))
        elif self._answered is not None:
            self._fail(UpstreamTimeout("The upstream did not answer in time"))
        elif self._held_back:
            self._fail(ClientGone("The client reads its answer too slowly", reason="max_duration"))
        elif self._reply is not None:
            self._fail(UpstreamTimeout("The upstream fell silent in the middle of its answer"))
        else:
            self.abort()

    def _is_still_sent_by_client(self) -> bool:
        """Whether all that has come of the request has gone on, and more is to come."""
        body, transport = self._body, self._transport
        if body is None or body.complete or transport is None:
            return False
        return transport.get_write_buffer_size() == 0

    def _touch(self) -> None:
        if self._outgoing is not None:
            self.deadline = min(self._ticker.now + self._outgoing.timeouts.idle, self._end)

    # BodySink: the request's body on its way out

    def body_data(self, data: bytes) -> None:
        """Send the next piece."""
        if self._transport is not None and self._body is not None and data:
            data = chunk(data) if self._body.length == CHUNKED else data
            self._outbox.write(self._transport, data)

    def body_end(
        self,
        trailers: bytes = b"",  # noqa: ARG002 — dropped, as RFC 9110, 6.5.1 allows
    ) -> None:
        """Note that the request has gone out whole: from now on the upstream is waited for."""
        body, outgoing = self._body, self._outgoing
        if self._transport is None or body is None or outgoing is None:
            return
        if body.length == CHUNKED:
            self._outbox.write(self._transport, LAST_CHUNK)
        self._sent = True
        self._body = None
        if self._answered is not None:
            now = self._ticker.now
            first_byte = now + outgoing.timeouts.first_byte
            self.deadline = min(first_byte, outgoing.begin_waiting(now), self._end)

    def pause_writing(self) -> None:
        """Have the client wait: the upstream reads slowly. It may not stop for ever."""
        if self._body is not None:
            self._body.pause()
            self._touch()

    def resume_writing(self) -> None:
        """Let the client go on."""
        if self._body is not None:
            self.deadline = self._end
            self._body.resume()

    # asyncio.Protocol: the answer on its way in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclass of asyncio's, but have all it has.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self._ticker.watch(self)

    def data_received(self, data: bytes) -> None:
        """Read on, wherever the answer stands."""
        answered = self._answered
        if answered is not None:
            try:
                self._receive_head(answered, self._buffer + data if self._buffer else data)
            except GatewayError as error:
                self._fail(error)
        elif self._reply is not None:
            self._receive_body(data)
        else:
            # Nothing is due: an unsolicited answer, or more than the last one announced.
            self.abort()

    def eof_received(self) -> bool:
        """Let the transport close: an upstream that is done talking is done."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        if self._transport is not None:
            self._transport = None
            self._ticker.forget(self)
            self._keeper.discard(self)
        if self._answered is not None:
            error = self._lost_head(exc)
            if isinstance(error, StaleConnection):
                self._keeper.distrust(self.idle_since)
            self._fail(error)
        elif self._reply is not None:
            self._lost_body(exc)

    # Reading the head

    def _receive_head(self, answered: Signal[Answer], data: bytes) -> None:
        method = self._outgoing.method if self._outgoing is not None else ""
        known = self._heads.again(data, method)
        if known is not None:
            self._receive_final(known, data[self._heads.size :], answered)
            return
        while True:
            end = data.find(HEAD_END)
            if end < 0 or end > _MAX_HEAD:
                if len(data) > _MAX_HEAD:
                    msg = "The upstream's answer has too large a head"
                    raise BadResponse(msg)
                if not _HTTP.startswith(data[: len(_HTTP)]):
                    msg = "The upstream does not speak HTTP/1"
                    raise BadResponse(msg)
                self._buffer = data
                return
            head = self._heads.read(data[: end + 4], method)
            data = data[end + 4 :]
            self._buffer = b""
            if head.status >= _FIRST_FINAL_STATUS:
                self._receive_final(head, data, answered)
                return
            self._receive_interim(head)
            if self._answered is not answered:
                return  # given up by whoever took the interim answer

    def _receive_interim(self, head: Response) -> None:
        self._interims += 1
        if head.status == _SWITCHING_PROTOCOLS or self._interims > _MAX_INTERIM:
            msg = "The upstream changed the protocol, or never came to its answer"
            raise BadResponse(msg, reason=f"status {head.status}, {self._interims} interim answers")
        if head.status != _CONTINUE and self._sink is not None:
            self._sink.interim(head)

    def _receive_final(self, head: Response, data: bytes, answered: Signal[Answer]) -> None:
        length = head.length
        if length == len(data):  # most often: the whole answer, and nothing else
            self._conclude(head, clean=True)
            answered.set(Reply(head, data, None))
            return
        if length == NO_BODY or 0 <= length < len(data):
            body = data[:length] if length >= 0 else b""
            self._conclude(head, clean=len(data) == len(body))
            answered.set(Reply(head, body, None))
            return
        self._answered = None
        self._reader = BodyReader(length)
        self._reply = reply = Reply(head, None, self)
        self._touch()
        if data:
            self._held.append(data)
        answered.set(reply)
        if self._reply is reply and self._ended is None:
            # Until somebody pipes, which may take a turn of the loop: memory is bounded.
            self._stop_reading()

    def _fail(self, error: GatewayError) -> None:
        """Close, and tell whoever waits for the head or for the end of the body."""
        waiting: Signal[Answer] | Signal[None] | None = self._answered or self._ended
        self.abort()
        if waiting is not None:
            waiting.fail(error)

    def _lost_head(self, exc: Exception | None) -> GatewayError:
        if self.uses > 1 and not self._buffer and not self._interims:
            msg = "The upstream had closed the connection"
            return StaleConnection(msg, reason=repr(exc))
        if self._buffer and exc is None:
            msg = "The upstream's answer ended in the middle of its head"
            return BadResponse(msg)
        msg = "The upstream closed the connection without an answer"
        return UpstreamReset(msg, reason=repr(exc))

    # Reading the body

    def _receive_body(self, data: bytes) -> None:
        sink, reader = self._sink, self._reader
        if reader is None:
            return
        if self._ended is None or sink is None:
            self._held.append(data)
            return
        self._touch()
        try:
            piece = reader.feed(data)
        except FramingError as error:
            self._fail(BadResponse("The upstream's answer is malformed", reason=str(error)))
            return
        if piece:
            sink.write(piece)
        if reader.done:
            self._complete(clean=not reader.rest)

    def _complete(self, *, clean: bool) -> None:
        sink, ended, reply = self._sink, self._ended, self._reply
        if reply is None:
            return  # the sink aborted us in its `write`
        trailers = b"" if self._reader is None else self._reader.trailers
        self._conclude(reply.head, clean=clean)
        if sink is not None:
            sink.finish(trailers)
        if ended is not None:
            ended.set(None)

    def _lost_body(self, exc: Exception | None) -> None:
        if self._ended is None or self._reader is None:
            self._loss = exc
            return  # `pipe` will find out
        if self._reader.until_close and exc is None:
            self._complete(clean=False)
            return
        msg = "The upstream's answer was cut short"
        self._fail(UpstreamReset(msg, reason=repr(exc)))

    # Between exchanges

    def _conclude(self, head: Response, *, clean: bool) -> None:
        """Give the connection back if both messages have ended cleanly, else close it."""
        transport = self._transport
        reusable = clean and self._sent and head.keep_alive
        self._clear()
        if reusable and transport is not None and not transport.is_closing():
            self.idle_since = self._ticker.now
            self._keeper.release(self)
        else:
            self.abort()

    def _clear(self) -> None:
        """Forget the exchange."""
        self._answered = None
        self._outgoing = None
        self._sink = None
        self._interims = 0
        if self._body is not None:
            self._body.unpipe()
            self._body = None
        self._sent = True
        if self._buffer:
            self._buffer = b""
        if self._reply is not None:
            self._reply.let_go()
            self._reply = None
            self._ended = None
            self._reader = None
            self._held = []
        self._held_back = False
        if self._paused:
            self._read_on()  # a slow reader's pause is not the next one's
