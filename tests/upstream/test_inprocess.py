"""An ASGI app in this process, asked like any upstream."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from propylon.errors import InternalError, UpstreamTimeout
from propylon.loop.ticker import NEVER
from propylon.upstream.inprocess import InProcess
from propylon.upstream.ports import Answer, Outgoing, Timeouts
from propylon.wire.headers import values
from propylon.wire.message import CHUNKED, NO_BODY
from tests.upstream.peer import Collected, Tap, run, until, upload

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def ask(
    app: Any, line: bytes = b"GET /a%20b?c=d HTTP/1.1", body: Any = None, total: float = NEVER
) -> Answer:
    """Ask an app."""
    loop = asyncio.get_running_loop()
    block = b"\r\nHost: a\r\nX-A: 1"
    deadline = loop.time() + total
    method = line.split(b" ")[0].decode()
    outgoing = Outgoing(method, line, block, body, Timeouts(), deadline)
    return await InProcess(app, loop).send(outgoing, Collected())


async def start(send: Send, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """Start an answer."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def piece(send: Send, data: bytes, *, more: bool = False) -> None:
    """Send a piece of it."""
    await send({"type": "http.response.body", "body": data, "more_body": more})


def test_a_whole_answer() -> None:
    """The app sees the request; its answer comes in one piece, with its length."""
    scopes: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await start(send, 201, (b"X-B", b"2"))
        await piece(send, b"hello")

    async def main() -> None:
        answer = await ask(app)
        assert (answer.head.status, answer.head.reason, answer.body) == (
            201,
            b" 201 Created",
            b"hello",
        )
        assert answer.head.block == b"\r\nX-B: 2\r\nContent-Length: 5"

    run(main())
    scope = scopes[0]
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=d")
    assert scope["headers"] == [(b"host", b"a"), (b"x-a", b"1")]


def test_an_app_in_this_process_has_no_connection_to_close() -> None:
    """A body on a GET asks for a connection of its own; an app in this process is called as ever."""
    scopes: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await start(send)
        await piece(send, b"hello")

    async def main() -> None:
        body, _ = upload(b"abc")
        out = Outgoing("GET", b"GET / HTTP/1.1", b"", body, Timeouts(), NEVER, length=3)
        out.closes = True
        answer = await InProcess(app, asyncio.get_running_loop()).send(out, Collected())
        assert answer.body == b"hello"

    run(main())
    assert scopes[0]["headers"] == [(b"content-length", b"3")]


def test_an_answer_in_pieces() -> None:
    """What was sent first, then what comes."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await start(send)
        for data in (b"a", b"b", b""):
            await piece(send, data, more=True)
            await asyncio.sleep(0)
        await piece(send, b"c")

    async def main() -> None:
        answer = await ask(app)
        assert (answer.body, answer.head.length) == (None, CHUNKED)
        sink = Collected()
        await answer.pipe(sink)
        assert (sink.data, sink.finished) == (b"abc", True)

    run(main())


@pytest.mark.parametrize(("line", "status"), [(b"HEAD / HTTP/1.1", 200), (b"GET / HTTP/1.1", 304)])
def test_an_answer_without_a_body(line: bytes, status: int) -> None:
    """Whatever the app sends."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await start(send, status, (b"content-length", b"5"))
        await piece(send, b"hello")

    async def main() -> None:
        answer = await ask(app, line)
        assert (answer.body, answer.head.length) == (b"", NO_BODY)
        assert values(answer.head.block, b"content-length") == [b"5"]

    run(main())


@pytest.mark.parametrize("when", ["before", "after the start", "no body", "too short"])
def test_an_app_that_fails(when: str) -> None:
    """InternalError with the cause, never a hang."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if when == "before":
            raise ZeroDivisionError
        await start(send, 200, (b"content-length", b"5"))
        if when == "after the start":
            raise ZeroDivisionError
        if when == "too short":
            await piece(send, b"abc")

    async def main() -> None:
        with pytest.raises(InternalError) as caught:
            await ask(app)
        assert caught.value.__cause__ is not None

    run(main())


def test_an_app_that_fails_in_its_body() -> None:
    """The body ends with the error."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await start(send)
        await piece(send, b"a", more=True)
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    async def main() -> None:
        answer = await ask(app)
        sink = Collected()
        with pytest.raises(InternalError):
            await answer.pipe(sink)
        assert (sink.data, sink.finished) == (b"a", False)

    run(main())


def test_an_app_that_fails_after_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Starlette sends its 500 and raises: the answer stands, the bug is logged."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await start(send, 500)
        await piece(send, b"oops")
        raise ZeroDivisionError

    async def main() -> None:
        answer = await ask(app)
        assert (answer.head.status, answer.body) == (500, b"oops")
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.ERROR):
        run(main())
    assert caplog.records[0].exc_info is not None


def test_an_app_that_takes_too_long() -> None:
    """504, and it is cancelled."""
    cancelled: list[int] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def main() -> None:
        with pytest.raises(UpstreamTimeout):
            await ask(app, total=0.03)
        await until(lambda: cancelled)

    run(main())


def test_nobody_waits_any_more() -> None:
    """The app is cancelled with the exchange, before and in its body."""
    begun: list[str] = []
    cancelled: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        try:
            if scope["raw_path"] == b"/body":
                await start(send)
                await piece(send, b"a", more=True)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(scope["path"])
            raise

    async def main() -> None:
        task = asyncio.create_task(ask(app, b"GET /head HTTP/1.1"))
        await until(lambda: begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: cancelled == ["/head"])
        answer = await ask(app, b"GET /body HTTP/1.1")
        answer.abort()
        await until(lambda: cancelled == ["/head", "/body"])

    run(main())


def test_a_request_body() -> None:
    """In pieces, then a disconnect when the answer is over."""
    got: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        while not got or got[-1]["more_body"]:
            got.append(await receive())
        await start(send)
        await piece(send, b"")
        assert (await receive())["type"] == "http.disconnect"

    async def main() -> None:
        body, tap = upload(length=CHUNKED, end=False)
        task = asyncio.create_task(ask(app, b"POST / HTTP/1.1", body))
        await until(lambda: body.started)
        body.feed(b"a")
        await asyncio.sleep(0.01)
        body.feed(b"b")
        body.end()
        assert (await task).body == b""
        await asyncio.sleep(0.01)
        assert isinstance(tap, Tap)

    run(main())
    assert b"".join(one["body"] for one in got) == b"ab"


def test_a_request_body_that_nobody_reads() -> None:
    """The client has to wait: what is held is bounded."""

    async def main() -> None:
        go = asyncio.Event()

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await go.wait()
            size, more = 0, True
            while more:
                message = await receive()
                size, more = size + len(message["body"]), message["more_body"]
            await start(send)
            await piece(send, b"%d" % size)

        body, tap = upload(length=CHUNKED, end=False)
        task = asyncio.create_task(ask(app, b"POST / HTTP/1.1", body))
        await until(lambda: body.started)
        body.feed(b"x" * 100_000)
        assert tap.paused
        go.set()
        await until(lambda: not tap.paused)
        body.end()
        assert (await task).body == b"100000"

    run(main())


@pytest.mark.parametrize("when", ["in the first write", "later"])
def test_a_slow_client_has_the_app_wait(when: str) -> None:
    """`send` does not return before there is room."""

    async def main() -> None:
        sent: list[int] = []

        async def app(scope: Message, receive: Receive, send: Send) -> None:
            await start(send)
            for number in range(4):
                await piece(send, b"x" * 50_000, more=True)
                sent.append(number)
                await asyncio.sleep(0)
            await piece(send, b"")

        answer = await ask(app)
        sink = Collected()
        if when == "in the first write":
            original = sink.write

            def full(data: bytes) -> None:
                original(data)
                answer.pause()

            sink.write = full  # type: ignore[method-assign]
            ended = answer.pipe(sink)
        else:
            ended = answer.pipe(sink)
            answer.pause()
        await asyncio.sleep(0.05)
        assert len(sent) < 4
        sink.write = Collected.write.__get__(sink)  # type: ignore[method-assign]
        answer.resume()
        await asyncio.wait_for(_done(ended), 20)
        assert len(sink.data) == 200_000

    run(main())


async def _done(signal: Any) -> None:
    await signal
