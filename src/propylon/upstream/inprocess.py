"""Send requests to an ASGI app in this process, by the same port as to any upstream.

Facts. So the gateway's own endpoints are routes like all others: request ids, tokens, limits and logs come from the
pipeline, and FastAPI is on the path of no other request. The app takes the place that it has under a server: what a
server checks of its messages has to be checked here.

Rules.

1. Each call has an answer or an error: an app that raises, returns too early or is cancelled is a 500, never a hang.
2. Header fields and lengths of the app are checked against `grammar`: a mistake of an endpoint is a 500, too.
3. Both directions have back-pressure, at the same 64 KiB.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from types import MappingProxyType
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

__all__ = ["CONTEXT", "TIME_LEFT", "ASGIApp", "InProcess"]

# The key in the scope's `state` under which the app finds `Outgoing.context`: what the gateway
# knows of the request.
CONTEXT = "propylon"
# The key for a function that returns the seconds until the app's answer is due, NEVER once it has begun.
TIME_LEFT = "propylon.time_left"

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
# RFC 9112, 6.3, rule 1.
_BODILESS = frozenset({204, 304})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# Bytes that may wait for a slow client, or for an app that is slow to receive: asyncio's own
# high-water mark for transports, and uvicorn's.
_HIGH_WATER = 64 * 1024


def _reason(status: int) -> bytes:
    phrase = _PHRASES.get(status, "")
    return f" {status} {phrase}".encode("ascii")


def _field(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a header field of the app as bytes, checked. Raises ValueError."""
    # An endpoint that echoes a parameter in a header must not let the client write the next header,
    # or an answer of its own (response splitting). uvicorn checks the fields for the same reason.
    name, value = bytes(name), bytes(value).strip(OWS)
    if TOKEN.fullmatch(name) is None or FIELD_VALUE.fullmatch(value) is None:
        msg = f"the application's header {name!r} is no header field"
        raise ValueError(msg)
    return name, value


class InProcess:
    """An ASGI app as an upstream."""

    def __init__(
        self,
        app: ASGIApp,
        loop: asyncio.AbstractEventLoop,
        state: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Call `app` once for each exchange, in a task of `loop`; it finds `state` in its scope's."""
        self._app = app
        self._loop = loop
        self._state = state
        self.busy = 0

    async def send(self, outgoing: Outgoing, sink: Sink) -> Answer:  # noqa: ARG002 — no 1xx
        """Call the app; return its answer when the body has begun. See `Upstream.send`."""
        call = _Call(outgoing, self._loop, self._state)
        outgoing.begin_sending()
        task = spawn(call.run(self._app))
        # The app may have no body to wait for: then its time runs from now on.
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
    """One call of the app: the `BodySink` of its request and the `Answer` that it gives."""

    def __init__(
        self, outgoing: Outgoing, loop: asyncio.AbstractEventLoop, state: Mapping[str, object]
    ) -> None:
        self._loop = loop
        self._state = state
        self._timer: asyncio.TimerHandle | None = None
        self.answered: Signal[Answer] = Signal()
        self.head = Response(_OK, b"", b"", NO_BODY, keep_alive=True)
        self.body: bytes | None = None
        self._outgoing = outgoing
        self._started = False
        self._sink: Sink | None = None
        self._ended: Signal[None] = Signal()
        self._answer_pieces: deque[bytes] = deque()
        self._answer_size = 0
        self._complete = False
        self._task: asyncio.Task[object] | None = None
        self._request_pieces: deque[bytes] = deque()
        self._request_size = 0
        self._request_complete = outgoing.body is None
        # A piece arrived, or another one may be sent.
        self._changed = asyncio.Event()
        # The answer has ended, which `receive` reports as a disconnect.
        self._disconnected = asyncio.Event()

    async def run(self, app: ASGIApp) -> None:
        """Call the app, and make sure that the exchange gets an answer or an error."""
        self._task = asyncio.current_task()
        try:
            if self._outgoing.body is not None:
                self._outgoing.body.pipe(self)
            await app(self._scope(), self._receive, self._send)
        # An app may raise anything, and its traceback must reach the log with the request's id.
        except (SystemExit, KeyboardInterrupt) as exit_:
            # An endpoint that calls sys.exit() ends its exchange, not the gateway: asyncio would pass it to the loop.
            self._fail(RuntimeError(f"the endpoint raised {type(exit_).__name__}"))
        except Exception as bug:  # noqa: BLE001 — the border to foreign code: a 500, never a hang
            self._fail(bug)
        else:
            if not self._complete:
                self._fail(RuntimeError("the application returned without a complete answer"))

    def _fail(self, bug: Exception) -> None:
        if self._complete and self.answered.done:
            # Starlette raises the exception again after it has sent its own 500; that answer
            # stands.
            log.error("an endpoint failed after its answer", exc_info=bug)
            return
        error = InternalError("An endpoint of the gateway failed")
        error.__cause__ = bug
        self.answered.fail(error)
        self._ended.fail(error)

    def set_timer(self) -> None:
        """Start the timer for the answer, if the request is complete: it has a deadline then."""
        if self._outgoing.deadline != NEVER and self._timer is None:
            self._timer = self._loop.call_at(self._outgoing.deadline, self.time_out)

    def clear_timer(self) -> None:
        """Stop the timer: the answer has begun, or the caller has given up."""
        if self._timer is not None:
            self._timer.cancel()

    def ended(self, task: asyncio.Task[object]) -> None:
        """Fail the answer if the app's task was cancelled, or ended by what is no Exception (SystemExit)."""
        cause = None if task.cancelled() else task.exception()
        if task.cancelled() or cause is not None:
            error = InternalError("An endpoint of the gateway was cancelled")
            error.__cause__ = cause
            self.answered.fail(error)
            self._ended.fail(error)

    def time_out(self) -> None:
        """Fail the answer, which has not begun in time."""
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
            # The ASGI spec: `path` decoded, `raw_path` as it was sent.
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in fields(block)],
            # Who the client is stands in the context. An address here would be the gateway's own
            # guess, and an app would take it for what a server has verified.
            "client": None,
            "server": None,
            "state": {
                **self._state,
                CONTEXT: self._outgoing.context,
                TIME_LEFT: self._time_left,
            },
        }

    def _time_left(self) -> float:
        return NEVER if self.answered.done else self._outgoing.deadline - self._loop.time()

    # The request's body: a BodySink on one side, `receive` on the other

    def body_data(self, data: bytes) -> None:
        """Take a piece of the request's body."""
        self._request_pieces.append(data)
        self._request_size += len(data)
        if self._request_size > _HIGH_WATER and self._outgoing.body is not None:
            self._outgoing.body.pause()
        self._changed.set()

    def body_end(
        self,
        trailers: bytes = b"",  # noqa: ARG002 — ASGI has no message for them
    ) -> None:
        """Take the end of the request's body: from now on the gateway waits for the app."""
        self._request_complete = True
        self._changed.set()
        if not self.answered.done:
            self._outgoing.begin_waiting(self._loop.time())
            self.set_timer()

    async def _receive(self) -> Message:
        while not self._request_pieces and not self._request_complete:
            self._changed.clear()
            await self._changed.wait()
        if not self._request_pieces and self._request_size < 0:
            # All of the request was received. The ASGI spec: the next event is the disconnect.
            await self._disconnected.wait()
            return {"type": "http.disconnect"}
        data = b"".join(self._request_pieces)
        self._request_pieces.clear()
        self._request_size = -1 if self._request_complete else 0
        if not self._request_complete and self._outgoing.body is not None:
            self._outgoing.body.resume()
        return {"type": "http.request", "body": data, "more_body": not self._request_complete}

    # The answer: `send` on one side, Answer on the other

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, message: Message) -> None:
        status = message["status"]
        pairs = [_field(*pair) for pair in message.get("headers", [])]
        # RFC 9112, 6.3, rule 5, as from any upstream. Without a length the edge uses the chunked
        # coding.
        lengths = [value for name, value in pairs if name.lower() == b"content-length"]
        length = content_length(lengths) if lengths else CHUNKED
        if self._outgoing.method == "HEAD" or status in _BODILESS:
            length = NO_BODY
        self.head = Response(status, _reason(status), render(pairs), length, keep_alive=True)

    async def _send_body(self, data: bytes, *, more: bool) -> None:
        if self._complete:
            # ASGI 2.4: OSError when the client is gone. A stream that answers HEAD would never end
            # otherwise.
            msg = "the answer is complete"
            raise OSError(msg)
        # A body where there is none (HEAD, 204, 304) is dropped, and the app is told that it is
        # done.
        if self.head.length == NO_BODY or not more:
            self._complete = True
            self._disconnected.set()
        if not self.answered.done:
            self._first_body(bytes(data), more=more)
            return
        if self._sink is None:
            self._answer_pieces.append(bytes(data))
            self._answer_size += len(data)
        else:
            self._push(bytes(data))
        while self._answer_size > _HIGH_WATER and not self._complete:
            self._changed.clear()
            await self._changed.wait()

    def _first_body(self, data: bytes, *, more: bool) -> None:
        if self.head.length == NO_BODY:
            self.body = b""
        elif not more:
            if self.head.length == CHUNKED:
                self.head.length = len(data)
                self.head.block += b"\r\nContent-Length: %d" % len(data)
            if self.head.length != len(data):
                # The client would read into the next answer, or wait for bytes that do not come.
                msg = "the application's answer is not as long as it said"
                raise RuntimeError(msg)
            self.body = data
        else:
            self._answer_pieces.append(data)
            self._answer_size += len(data)
        self.answered.set(self)

    def _push(self, data: bytes) -> None:
        if self._sink is None:
            return
        if data:
            self._sink.write(data)
        if self._complete:
            self._sink.finish()
            self._ended.set(None)

    def pipe(self, sink: Sink) -> Signal[None]:
        """Push the body to `sink`; see `Answer.pipe`."""
        self._sink = sink
        while self._answer_pieces:
            sink.write(self._answer_pieces.popleft())
        self._answer_size = 0
        if self._complete and not self._ended.done:
            self._push(b"")
        self._changed.set()
        return self._ended

    def pause(self) -> None:
        """Make the app's `send` wait, because the client is slow (back-pressure)."""
        self._answer_size = _HIGH_WATER + 1

    def resume(self) -> None:
        """Let the app's `send` return."""
        self._answer_size = 0
        self._changed.set()

    def abort(self) -> None:
        """Cancel the app's task; a no-op after the end of the answer."""
        if self._task is not None and not self._complete:
            self._complete = True
            self._disconnected.set()
            self._task.cancel()
