"""Ask an ASGI app in this process, with the same verb as any upstream.

So the gateway's own endpoints are routes like all others: request ids, limits, logs and errors come
from the pipeline, and FastAPI is never in anybody else's way.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from propylon.errors import InternalError, UpstreamTimeout
from propylon.loop.signal import Signal
from propylon.loop.tasks import spawn
from propylon.loop.ticker import NEVER
from propylon.upstream.ports import Answer, Outgoing, Sink
from propylon.wire.framing import announced, content_length
from propylon.wire.grammar import FIELD_VALUE, OWS, TOKEN
from propylon.wire.headers import fields, render
from propylon.wire.message import CHUNKED, NO_BODY, Response

__all__ = ["CONTEXT", "ASGIApp", "InProcess"]

# Under this name the app finds, in the scope's state, what the caller knows of the request.
CONTEXT = "propylon"

Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]

log = logging.getLogger(__name__)

_OK = 200
_BODILESS = frozenset({204, 304})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# What may lie between the app and a slow client.
_HIGH_WATER = 64 * 1024


def _reason(status: int) -> bytes:
    phrase = _PHRASES.get(status, "")
    return f" {status} {phrase}".encode("ascii")


def _field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a header field of the app's. Raises ValueError for one that would end its line.

    An endpoint that echoes a parameter in a header must not let the client write the next header, or an
    answer of its own (response splitting). Servers of ASGI apps check it for the same reason.
    """
    name, value = bytes(name), bytes(value).strip(OWS)
    if TOKEN.fullmatch(name) is None or FIELD_VALUE.fullmatch(value) is None:
        msg = f"the application's header {name!r} is no header field"
        raise ValueError(msg)
    return name, value


class InProcess:
    """An ASGI app as an upstream."""

    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        """Call `app` once per exchange, in a task of its own."""
        self._app = app
        self._loop = loop
        self.busy = 0

    async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:  # noqa: ARG002 — no 1xx
        """Call the app; return when it has started to answer. See `Upstream.send`."""
        call = _Call(outgoing, self._loop)
        outgoing.begin_sending()
        task = spawn(call.run(self._app))
        call.set_timer()
        answer = None
        self.busy += 1
        task.add_done_callback(self._done)
        task.add_done_callback(call.ended)
        try:
            answer = await call.answered
        finally:
            call.clear_timer()
            if answer is None:
                task.cancel()
        return answer

    def _done(self, _: object) -> None:
        self.busy -= 1


class _Call:
    """One call of the app: feeds it the request's body, turns its messages into an Answer."""

    def __init__(self, outgoing: Outgoing, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self.answered: Signal[Answer] = Signal()
        self.head = Response(_OK, b"", b"", NO_BODY, keep_alive=True)
        self.body: bytes | None = None
        self._outgoing = outgoing
        self._started = False
        self._sink: Sink | None = None
        self._ended: Signal[None] = Signal()
        self._out: deque[bytes] = deque()
        self._out_size = 0
        self._over = False
        self._task: asyncio.Task[object] | None = None
        self._in: deque[bytes] = deque()
        self._in_size = 0
        self._in_complete = outgoing.body is None
        self._news = asyncio.Event()  # something came in, or may go out
        self._finished = asyncio.Event()  # what `receive` calls a disconnect

    async def run(self, app: ASGIApp) -> None:
        """Call the app and see to it that there is an answer, or an error."""
        self._task = asyncio.current_task()
        try:
            if self._outgoing.body is not None:
                self._outgoing.body.pipe(self)
            await app(self._scope(), self._receive, self._send)
        except Exception as bug:  # noqa: BLE001 — the border to foreign code: a 500, never a hang
            self._crash(bug)
        else:
            if not self._over:
                self._crash(RuntimeError("the application returned without a complete answer"))

    def _crash(self, bug: Exception) -> None:
        if self._over and self.answered.done:
            # Starlette raises again after having sent its own 500; the answer stands.
            log.error("an endpoint failed after its answer", exc_info=bug)
            return
        error = InternalError("An endpoint of the gateway failed")
        error.__cause__ = bug
        self.answered.fail(error)
        self._ended.fail(error)

    def set_timer(self) -> None:
        """Wait no longer than the deadline, once there is one: when the request is complete."""
        if self._outgoing.deadline != NEVER and self._timer is None:
            self._timer = self._loop.call_at(self._outgoing.deadline, self.time_out)

    def clear_timer(self) -> None:
        """The answer has started, or nobody waits for it."""
        if self._timer is not None:
            self._timer.cancel()

    def ended(self, task: asyncio.Task[object]) -> None:
        """See to it that nobody waits for a task that was cancelled by something of its own."""
        cause = None if task.cancelled() else task.exception()
        if task.cancelled() or cause is not None:  # by what is no Exception
            error = InternalError("An endpoint of the gateway was cancelled")
            error.__cause__ = cause
            self.answered.fail(error)
            self._ended.fail(error)

    def time_out(self) -> None:
        """Give up waiting for the answer to start."""
        self.answered.fail(UpstreamTimeout("The endpoint did not answer in time"))

    def _scope(self) -> MutableMapping[str, Any]:
        path, _, query = self._outgoing.line.split(b" ")[1].partition(b"?")
        block = self._outgoing.block + announced(self._outgoing.length)
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self._outgoing.method,
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in fields(block)],
            "client": None,
            "server": None,
            "state": {CONTEXT: self._outgoing.context},
        }

    # The request's body: a BodySink on one side, `receive` on the other

    def body_data(self, data: bytes) -> None:
        """Take a piece of the request's body."""
        self._in.append(data)
        self._in_size += len(data)
        if self._in_size > _HIGH_WATER and self._outgoing.body is not None:
            self._outgoing.body.pause()
        self._news.set()

    def body_end(
        self,
        trailers: bytes = b"",  # noqa: ARG002 — ASGI has no message for them
    ) -> None:
        """Note that the request is complete."""
        self._in_complete = True
        self._news.set()
        if not self.answered.done:
            self._outgoing.begin_waiting(self._loop.time())
            self.set_timer()

    async def _receive(self) -> Message:
        while not self._in and not self._in_complete:
            self._news.clear()
            await self._news.wait()
        if not self._in and self._in_size < 0:
            await self._finished.wait()  # everything was received: the next event is the end
            return {"type": "http.disconnect"}
        data = b"".join(self._in)
        self._in.clear()
        self._in_size = -1 if self._in_complete else 0
        if not self._in_complete and self._outgoing.body is not None:
            self._outgoing.body.resume()
        return {"type": "http.request", "body": data, "more_body": not self._in_complete}

    # The answer: `send` on one side, Answer on the other

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, message: Message) -> None:
        status = message["status"]
        pairs = [_field(*pair) for pair in message.get("headers", [])]
        lengths = [value for name, value in pairs if name.lower() == b"content-length"]
        length = content_length(lengths) if lengths else CHUNKED
        if self._outgoing.method == "HEAD" or status in _BODILESS:
            length = NO_BODY
        self.head = Response(status, _reason(status), render(pairs), length, keep_alive=True)

    async def _send_body(self, data: bytes, *, more: bool) -> None:
        if self._over:
            # ASGI 2.4: nobody is left to read; a stream to a HEAD request would never end.
            msg = "the answer is complete"
            raise OSError(msg)
        if self.head.length == NO_BODY or not more:
            self._over = True
            self._finished.set()
        if not self.answered.done:
            self._first_body(bytes(data), more=more)
            return
        if self._sink is None:
            self._out.append(bytes(data))
            self._out_size += len(data)
        else:
            self._push(bytes(data))
        while self._out_size > _HIGH_WATER and not self._over:
            self._news.clear()
            await self._news.wait()

    def _first_body(self, data: bytes, *, more: bool) -> None:
        if self.head.length == NO_BODY:
            self.body = b""
        elif not more:
            if self.head.length == CHUNKED:
                self.head.length = len(data)
                self.head.block += b"\r\nContent-Length: %d" % len(data)
            if self.head.length != len(data):
                msg = "the application's answer is not as long as it said"
                raise RuntimeError(msg)
            self.body = data
        else:
            self._out.append(data)
            self._out_size += len(data)
        self.answered.set(self)

    def _push(self, data: bytes) -> None:
        if self._sink is None:
            return
        if data:
            self._sink.write(data)
        if self._over:
            self._sink.finish()
            self._ended.set(None)

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body to `sink`; see `Answer.pipe`."""
        self._sink = sink
        while self._out:
            sink.write(self._out.popleft())
        self._out_size = 0
        if self._over and not self._ended.done:
            self._push(b"")
        self._news.set()
        return self._ended

    def pause(self) -> None:
        """Have the app's `send` wait."""
        self._out_size = _HIGH_WATER + 1

    def resume(self) -> None:
        """Let the app go on."""
        self._out_size = 0
        self._news.set()

    def abort(self) -> None:
        """Cancel the app's task."""
        if self._task is not None and not self._over:
            self._over = True
            self._finished.set()
            self._task.cancel()
