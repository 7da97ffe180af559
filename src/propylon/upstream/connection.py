"""Carry one exchange at a time over one socket to an upstream.

    begin() ──► HEAD ──(final head)──► BODY ──(complete)──► idle again, or closed
                 │  ▲                   │
                 │  └─ 1xx              └─ cut short, silent, or abort(): closed
                 └─ closed, silent, malformed: the signal fails

Facts. On a kept-alive connection the next client's answer comes after this client's answer. A byte too many or too few
here is an answer for the wrong client.

Rules.

1. An answer that could be read in two ways is a 502, and the connection is closed.
2. Bytes that arrive when no answer is due (an unsolicited 408, a second answer) close the connection: they must never
   be paired with the next request (response queue poisoning). `reusable` sees those that were not read yet.
3. The connection goes back to its pool only when request and answer have both ended as their framing says, and the
   upstream has no unread body that it could take for the next request (`Outgoing.closes`).
4. An answer that ends early is never passed on as a whole one: the sink is not told `finish`.
5. Each direction has back-pressure: a slow client pauses reading here, a slow upstream pauses the client's body.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol, cast

from propylon.errors import (
    BadResponse,
    ClientGone,
    ConnectFailed,
    GatewayError,
    RequestTimeout,
    StaleConnection,
    UpstreamReset,
    UpstreamStalled,
    UpstreamTimeout,
)
from propylon.loop.outbox import Outbox
from propylon.loop.sendqueue import unsent
from propylon.loop.signal import Signal
from propylon.loop.ticker import NEVER, Ticker
from propylon.upstream.ports import Answer, Outgoing, RequestBody, Sink
from propylon.upstream.reply import Reply
from propylon.upstream.sending import SMALL, Sending
from propylon.upstream.tls import find_truncation
from propylon.wire.framing import HEAD_END, LAST_CHUNK, BodyReader, FramingError, chunk
from propylon.wire.headers import without
from propylon.wire.message import CHUNKED, NO_BODY, Response
from propylon.wire.response import AnswerProbe, ResponseReader, is_event_stream

__all__ = ["Connection", "Owner"]

# Bytes, as `server.max_header` allows a client by default. nginx allows an upstream 4 or 8 KiB
# (`proxy_buffer_size`), HAProxy 16 KiB (`tune.bufsize`), Envoy 60 KiB; an endless head must not
# fill the memory.
_MAX_HEAD = 64 * 1024
# RFC 9110, 15.2: a client must be able to parse one or more 1xx answers. Upstreams send a few; one
# that sends them without end never answers, and each of them would count as a sign of life.
_MAX_INTERIM = 100
_SWITCHING_PROTOCOLS = 101
_FIRST_FINAL_STATUS = 200
_CONTINUE = 100


class Owner(Protocol):
    """What owns a connection between exchanges: its pool."""

    def release(self, connection: Connection) -> None:
        """Take back an open connection whose exchange has ended cleanly."""

    def discard(self, connection: Connection) -> None:
        """Drop a connection that is closed."""

    def close_idle_since(self, since: float) -> None:
        """Close the connections that have been idle since then or longer: one of them turned out to be dead.

        `since` is a time of the loop's clock.
        """


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection to an upstream."""

    def __init__(self, owner: Owner, ticker: Ticker, outbox: Outbox) -> None:
        """Belong to `owner`; write by `outbox`; `ticker` watches `deadline` while the connection is open."""
        # Per connection
        self._owner = owner
        self._ticker = ticker
        self._outbox = outbox
        self._transport: asyncio.Transport | None = None
        # Tells what waits in the socket, without reading it.
        self._look: Callable[[int], list[tuple[int, int]]] | None = None
        self.deadline = NEVER
        self.idle_since = 0.0
        self.uses = 0
        self._paused = False
        self._paused_by_sink = False  # the sink has called `pause`
        self._loss: Exception | None = None  # what ended the connection before `pipe`
        self._heads = ResponseReader()
        # What was sent before the first request: a header of the PROXY protocol, which names one client.
        self.header = b""
        # Per exchange
        self._outgoing: Outgoing | None = None
        self._answered: Signal[Answer] | None = None  # not None while the head is awaited
        self._reply: Reply | None = None  # not None while the body is awaited
        self._ended: Signal[None] | None = None
        self._sink: Sink | None = None
        self._body: RequestBody | None = None
        self._sent = True  # the whole request has been sent
        self._sending: Sending | None = (
            None  # not None while the upstream has to read a part of the request
        )
        self._idle = NEVER  # seconds that the body of the answer may be silent
        self._buffer = b""  # the beginning of a head
        self._probe: AnswerProbe | None = None  # of that beginning
        self._early_body: list[bytes] = []  # what arrived of the body before `pipe`
        self._reader: BodyReader | None = None
        self._interims = 0  # 1xx answers so far
        self._max_deadline = NEVER  # when `max_duration` is over

    def __repr__(self) -> str:
        """Show the state and the number of exchanges, for logs and tests."""
        state = "idle" if self._transport is not None else "closed"
        if self._answered is not None:
            state = "awaiting head"
        elif self._reply is not None:
            state = "receiving body"
        return f"<Connection {state} uses={self.uses}>"

    @property
    def usable(self) -> bool:
        """Whether an exchange may begin here, as far as the gateway knows."""
        # The upstream may have closed it just now, and the FIN may be on its way: RFC 9112, 9.5.
        return self._transport is not None and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether the next exchange may begin on a connection that has carried one: nothing waits in its socket."""
        # The loop reads a socket once in each turn, and a turn may take milliseconds. An answer that the gateway did not ask for
        # may have arrived meanwhile (rule 2), or a FIN. `poll` tells both in 0.5 µs; `recv` with MSG_PEEK tells the same,
        # but takes 1.9 µs, because Python raises an exception where nothing waits.
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        return self._look is None or not self._look(0)

    # The exchange

    def begin(self, outgoing: Outgoing, sink: Sink) -> Signal[Answer]:
        """Send the request; the signal is set with the final answer, when its head has arrived.

        `sink` gets the 1xx answers. Raises ConnectFailed if the connection is closed: the request was not sent, so
        the caller may try another instance whatever the method.
        """
        transport = self._transport
        if transport is None:
            # The upstream sent bytes before the request, or closed the connection between two turns
            # of the loop.
            msg = "The upstream closed the connection before it was asked"
            raise ConnectFailed(msg)
        self.uses += 1
        self._outgoing = outgoing
        self._sink = sink
        answered: Signal[Answer] = Signal(self._abandoned)
        self._answered = answered
        # One write for the whole head: a head in two segments costs an upstream two reads.
        if outgoing.length == NO_BODY:
            head = b"".join((outgoing.line, outgoing.block, HEAD_END))
        else:
            head = b"".join((outgoing.line, outgoing.block, outgoing.framing(), HEAD_END))
        self._outbox.write(transport, head)
        timeouts = outgoing.timeouts
        now = self._ticker.now
        self._max_deadline = now + timeouts.max_duration
        self._idle = timeouts.idle
        body = outgoing.body
        if body is None:
            self.deadline = min(now + timeouts.first_byte, outgoing.deadline, self._max_deadline)
        else:
            # `first_byte` and `total` begin at the end of the body: until then the client may be
            # slow.
            self._sent = False
            self._body = body
            self.deadline = self._max_deadline
            outgoing.begin_sending()
            self._pipe(body)
        return answered

    def _pipe(self, body: RequestBody) -> None:
        """Have the request's body pushed here. Raises what `RequestBody.pipe` raises."""
        piped = False
        try:
            body.pipe(self)
            piped = True
        finally:
            if not piped:
                # The body is too large, say. A part of a request must not stay in the connection:
                # the upstream would wait for the rest, and take the next request for it.
                self.abort()

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body of the answer to `sink`, first what has arrived already.

        The signal is set at the end of the body, or fails if the body breaks off.
        """
        reply = self._reply
        ended: Signal[None] = Signal(lambda _: reply.abort() if reply is not None else None)
        self._ended = ended
        self._sink = sink
        self._restart_idle_timeout()
        held, self._early_body = self._early_body, []
        for data in held:
            self._receive_body(data)
        if self._reply is None or ended.done:
            return ended
        if self._transport is None:
            self._body_lost(self._loss)
        elif not self._paused_by_sink:
            self._resume_reading()
        return ended

    def pause(self) -> None:
        """Stop reading from the upstream, because the client is slow (back-pressure)."""
        self._paused_by_sink = True
        self._pause_reading()

    def resume(self) -> None:
        """Read from the upstream again."""
        self._paused_by_sink = False
        self._resume_reading()

    def _pause_reading(self) -> None:
        if (transport := self._transport) is not None and not transport.is_closing():
            self._paused = True
            transport.pause_reading()
            # While we do not read, silence is not the upstream's fault.
            self.deadline = self._max_deadline

    def _resume_reading(self) -> None:
        if (transport := self._transport) is not None and not transport.is_closing():
            self._paused = False
            transport.resume_reading()
            self._restart_idle_timeout()

    def _abandoned(self, answer: Answer | None) -> None:
        """Close the connection, because the waiter gave up, before the answer came or without taking it."""
        if answer is None:
            self.abort()
        else:
            answer.abort()

    def abort(self) -> None:
        """Close the connection at once, without waiting for the bytes in flight."""
        # The owner is told here and not by `connection_lost`, which comes in a later turn of the
        # loop: a pool must not hand out this connection meanwhile.
        self._reset()
        transport, self._transport = self._transport, None
        if transport is not None:
            self._ticker.forget(self)
            self._owner.discard(self)
            transport.abort()

    def expire(self) -> None:
        """Fail the exchange whose deadline has passed; close a connection that was idle for too long."""
        if self._sending is not None and self._has_read(self._sending):
            return
        # What the client delayed must not count as a failure of the upstream: a few slow clients
        # would open the breaker for all clients.
        if self._waits_for_client():
            self._fail(RequestTimeout("The request did not arrive in time", reason="max_duration"))
        elif self._sending is not None and self._left():
            self._fail(UpstreamStalled("The upstream did not read the request in time"))
        elif self._answered is not None:
            self._fail(UpstreamTimeout("The upstream did not answer in time"))
        elif self._paused_by_sink:
            self._fail(ClientGone("The client reads its answer too slowly", reason="max_duration"))
        elif self._reply is not None:
            self._fail(UpstreamTimeout("The upstream fell silent in the middle of its answer"))
        else:
            self.abort()

    def _waits_for_client(self) -> bool:
        """Whether the upstream has got all of the request that has arrived, and more of it is to come."""
        body, transport = self._body, self._transport
        if body is None or body.complete or transport is None:
            return False
        return transport.get_write_buffer_size() == 0

    def _left(self) -> int:
        """Return how many bytes of the request the upstream has not read."""
        return 0 if self._transport is None else unsent(self._transport)

    def _has_read(self, sending: Sending) -> bool:
        """Give the upstream more time if it reads the request, however slowly; tell whether it does."""
        now, outgoing = self._ticker.now, self._outgoing
        following = sending.look(now, self._left())
        if following is None or outgoing is None or now >= self._max_deadline:
            return False
        if self._sent and self._answered is not None:
            # The request is not complete before the upstream has read it: `total` begins then.
            outgoing.deadline = NEVER
            outgoing.begin_waiting(now)
        self.deadline = min(following, self._max_deadline)
        return True

    def _watch_sending(self, due: float) -> None:
        """Wait until `due`, and longer while the upstream reads the request."""
        self._sending = Sending(self._ticker.now, due)
        self.deadline = min(self._sending.first_look, self._max_deadline)

    def _restart_idle_timeout(self) -> None:
        if self._outgoing is None:
            return
        self.deadline = self._max_deadline
        # An upstream that has begun to answer may wait for the rest of the request, as the gateway does.
        if self._body is None or self._sending is not None:
            self.deadline = min(self._ticker.now + self._idle, self._max_deadline)

    # BodySink: the request's body on its way out

    def body_data(self, data: bytes) -> None:
        """Send the next piece of the request's body to the upstream."""
        # An empty chunk would end the body (RFC 9112, 7.1).
        if self._transport is not None and self._body is not None and data:
            data = chunk(data) if self._body.length == CHUNKED else data
            self._outbox.write(self._transport, data)

    def body_end(
        self,
        trailers: bytes = b"",  # noqa: ARG002 — dropped, as RFC 9110, 6.5.1 allows
    ) -> None:
        """Complete the request: from now on the gateway waits for the upstream, and its timeouts run."""
        body, outgoing = self._body, self._outgoing
        if self._transport is None or body is None or outgoing is None:
            return
        if body.length == CHUNKED:
            self._outbox.write(self._transport, LAST_CHUNK)
        self._sent = True
        self._body = None
        now = self._ticker.now
        if self._answered is not None:
            due = min(now + outgoing.timeouts.first_byte, outgoing.begin_waiting(now))
        elif self._paused_by_sink:
            return
        else:
            due = now + self._idle
        if 0 <= body.length <= SMALL:
            self.deadline = min(due, self._max_deadline)
        else:
            self._watch_sending(due)

    def pause_writing(self) -> None:
        """Pause the client's body, because the upstream reads slowly (back-pressure)."""
        # The idle timeout runs meanwhile: an upstream that stops reading for good must not hold the
        # client for ever.
        if self._body is not None and self._outgoing is not None:
            self._body.pause()
            self._watch_sending(self._ticker.now + self._outgoing.timeouts.idle)

    def resume_writing(self) -> None:
        """Resume the client's body; the idle timeout stops, because now the client may be slow."""
        if self._body is not None:
            self._sending = None
            self.deadline = self._max_deadline
            self._body.resume()

    # asyncio.Protocol: the answer on its way in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, and have the ticker watch the deadline."""
        # uvloop's transports do not inherit from asyncio.Transport, but have all its methods.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        if sock is not None:
            waiting = select.poll()
            waiting.register(sock.fileno(), select.POLLIN)
            self._look = waiting.poll
        self._ticker.watch(self)

    def data_received(self, data: bytes) -> None:
        """Read the head or the body of the answer, whichever is due; close the connection if neither is."""
        answered = self._answered
        if answered is not None:
            try:
                # Joined anew for each piece, which is quadratic, but bounded by `_MAX_HEAD`.
                self._receive_head(answered, self._buffer + data if self._buffer else data)
            except GatewayError as error:
                self._fail(error)
        elif self._reply is not None:
            self._receive_body(data)
        else:
            # Rule 2: an unsolicited answer, or more bytes than the last answer announced.
            self.abort()

    def eof_received(self) -> bool:
        """Let the transport close the connection, after a half-close by the upstream."""
        # RFC 9112, 9.6: a server that closes its side sends no more. Keeping our side open, as True
        # would, leaves a connection over which no answer can come.
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the connection, and fail or complete the exchange that is under way."""
        if exc is None and self._reply is not None:
            exc = find_truncation(self._transport)
        if self._transport is not None:
            self._transport = None
            self._ticker.forget(self)
            self._owner.discard(self)
        if self._answered is not None:
            error = self._head_lost(exc)
            # What has been idle for as long, or longer, is very likely dead in the same way.
            if isinstance(error, StaleConnection):
                self._owner.close_idle_since(self.idle_since)
            self._fail(error)
        elif self._reply is not None:
            self._body_lost(exc)

    # Reading the head

    def _receive_head(self, answered: Signal[Answer], data: bytes) -> None:
        """Read heads up to the final one. Raises BadResponse."""
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
                # Whatever is no HTTP/1 is refused at its first bytes, and not only at the timeout.
                if self._probe is None:
                    self._probe = AnswerProbe()
                self._probe.feed(data)
                self._buffer = data
                return
            raw, data = data[: end + 4], data[end + 4 :]
            head = self._heads.read(raw, method)
            self._buffer = b""
            self._probe = None
            if head.status >= _FIRST_FINAL_STATUS:
                self._receive_final(head, data, answered)
                return
            if head.status == _SWITCHING_PROTOCOLS and self._switch(head, raw, data):
                return
            self._receive_interim(head)
            if self._answered is not answered:
                return  # the sink aborted the exchange in `interim`

    def _switch(self, head: Response, raw: bytes, rest: bytes) -> bool:  # noqa: ARG002
        """Change to the protocol that this request has offered; return False if it has offered none."""
        return False

    def _receive_interim(self, head: Response) -> None:
        self._interims += 1
        # RFC 9110, 15.2.2: 101 only answers an Upgrade. A tunnel that the gateway did not ask for
        # would carry requests past all stages.
        if head.status == _SWITCHING_PROTOCOLS or self._interims > _MAX_INTERIM:
            msg = "The upstream changed the protocol, or never came to its answer"
            raise BadResponse(msg, reason=f"status {head.status}, {self._interims} interim answers")
        # 100 is between the gateway and the upstream: the edge has sent its own to a client that
        # waits for one.
        if head.status != _CONTINUE and self._sink is not None:
            if self._outgoing is not None and self._outgoing.hidden:
                head.block = without(head.block, self._outgoing.hidden)
            self._sink.interim(head)

    def _receive_final(self, head: Response, data: bytes, answered: Signal[Answer]) -> None:
        length = head.length
        # The exchange ends before the waiter resumes: what the waiter does next (a retry, the next
        # request of the same client) may use this connection.
        if length == len(data):  # nearly always: the whole answer, and nothing else
            self._end_exchange(head, clean=True)
            answered.set(Reply(head, data, None))
            return
        # Bytes after the answer close the connection (rule 2); the answer itself is sound.
        if length == NO_BODY or 0 <= length < len(data):
            body = data[:length] if length >= 0 else b""
            self._end_exchange(head, clean=len(data) == len(body))
            answered.set(Reply(head, body, None))
            return
        self._answered = None
        self._reader = BodyReader(length)
        self._reply = reply = Reply(head, None, self)
        if self._outgoing is not None and is_event_stream(head):
            self._idle = self._outgoing.timeouts.stream
        self._restart_idle_timeout()
        if (
            self._sending is not None
        ):  # it waited for the head until now, and waits for the body from now on
            self._watch_sending(self._ticker.now + self._idle)
        if data:
            self._early_body.append(data)
        answered.set(reply)
        if self._reply is reply and self._ended is None:
            # No sink yet: the waiter may resume in a later turn of the loop, and memory must be
            # bounded until then.
            self._pause_reading()

    def _fail(self, error: GatewayError) -> None:
        """Close the connection, and fail the signal for the head or for the end of the body."""
        waiting: Signal[Answer] | Signal[None] | None = self._answered or self._ended
        self.abort()
        if waiting is not None:
            waiting.fail(error)

    def _head_lost(self, exc: Exception | None) -> GatewayError:
        """Return the error for a connection that closed while the head was awaited."""
        # RFC 9112, 9.3.1: an upstream may close an idle connection just as the next request is
        # sent. On a connection that has served before, and without one byte of an answer, that is
        # no failure, and the request may be sent again if it is idempotent.
        if self.uses > 1 and not self._buffer and not self._interims:
            msg = "The upstream had closed the connection"
            return StaleConnection(msg, reason="" if exc is None else repr(exc))
        # An orderly close in mid-head is a broken upstream (502), a reset may be a restart of it.
        if self._buffer and exc is None:
            msg = "The upstream's answer ended in the middle of its head"
            return BadResponse(msg)
        msg = "The upstream closed the connection without an answer"
        return UpstreamReset(msg, reason="" if exc is None else repr(exc))

    # Reading the body

    def _receive_body(self, data: bytes) -> None:
        sink, reader = self._sink, self._reader
        if reader is None:
            return
        if self._ended is None or sink is None:
            self._early_body.append(data)
            return
        self._restart_idle_timeout()
        try:
            piece = reader.feed(data)
        except FramingError as error:
            self._fail(BadResponse("The upstream's answer is malformed", reason=str(error)))
            return
        # The end and the data before it arrive together as a rule. The data goes first, since
        # `finish` is the last call that a sink gets.
        if piece:
            sink.write(piece)
        if reader.done:
            self._complete(clean=not reader.rest)

    def _complete(self, *, clean: bool) -> None:
        sink, ended, reply = self._sink, self._ended, self._reply
        if reply is None:
            return  # the sink aborted us in its `write`
        trailers = b"" if self._reader is None else self._reader.trailers
        self._end_exchange(reply.head, clean=clean)
        if sink is not None:
            sink.finish(trailers)
        if ended is not None:
            ended.set(None)

    def _body_lost(self, exc: Exception | None) -> None:
        if self._ended is None or self._reader is None:
            self._loss = exc
            return  # `pipe` raises it, after what has arrived
        # RFC 9112, 8: only an orderly close ends a body without a length. A reset is an incomplete
        # message, and so is the end of the connection without the end of TLS (9.8).
        if self._reader.until_close and exc is None:
            self._complete(clean=False)
            return
        msg = "The upstream's answer was cut short"
        self._fail(UpstreamReset(msg, reason="" if exc is None else repr(exc)))

    # Between exchanges

    def _end_exchange(self, head: Response, *, clean: bool) -> None:
        """Give the connection back to its owner if request and answer have ended cleanly, else close it (rule 3)."""
        # An answer that comes before the end of the request (413, say) leaves the rest of the body
        # unsent: the upstream would take the next request for it.
        transport = self._transport
        # A body that the upstream has not read would be the next request on this connection
        # (`closes`), even where the upstream ignores `Connection: close`.
        outgoing = self._outgoing
        once = outgoing is not None and outgoing.closes
        reusable = clean and self._sent and head.keep_alive and not once
        self._reset()
        if reusable and transport is not None and not transport.is_closing():
            self.idle_since = self._ticker.now
            self._owner.release(self)
        else:
            self.abort()

    def _reset(self) -> None:
        """Reset the state of the exchange, and detach its body and its reply from this connection."""
        self._answered = None
        self._outgoing = None
        self._sending = None
        self._sink = None
        self._interims = 0
        # A client that still sends its body must not write into the next exchange.
        if self._body is not None:
            self._body.unpipe()
            self._body = None
        self._sent = True
        if self._buffer:
            self._buffer = b""
            self._probe = None
        if self._reply is not None:
            self._reply.detach()
            self._reply = None
            self._ended = None
            self._reader = None
            self._early_body = []
        # The pause of a slow client must not hold up the next exchange, nor hide that the upstream
        # closes the connection: a transport that does not read sees no FIN.
        self._paused_by_sink = False
        if self._paused:
            self._resume_reading()
