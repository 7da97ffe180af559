"""How a call of an app in this process ends: in time, too late, by its own bug, or because the client has left."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from propylon.edge.body import Body
from propylon.errors import InternalError, UpstreamTimeout
from propylon.loop.ticker import NEVER
from propylon.upstream.inprocess import InProcess
from propylon.upstream.ports import Answer, Outgoing, Timeouts
from propylon.wire.message import CHUNKED
from tests.support.virtual import run
from tests.upstream.peer import Collected, upload
from tests.upstream.test_inprocess import Message, Receive, Send, piece, start

TOTAL = 60.0
APP = Callable[[Message, Receive, Send], Any]


class Call:
    """One call of an app, on a loop on which waiting takes no time."""

    def __init__(self, app: APP, body: Body | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.inside = InProcess(app, self.loop)
        line = b"POST / HTTP/1.1" if body else b"GET / HTTP/1.1"
        # As `proxy.forward` does: the app's time does not run before the request is complete.
        deadline = self.began + TOTAL if body is None or body.complete else NEVER
        block = b"\r\nHost: a"
        self.outgoing = Outgoing(
            "POST" if body else "GET", line, block, body, Timeouts(total=TOTAL), deadline
        )
        self.sink = Collected()
        self.task = asyncio.create_task(self.inside.send(self.outgoing, self.sink))

    @property
    def seconds(self) -> float:
        """How long ago it began."""
        return round(self.loop.time() - self.began, 6)

    async def answered(self) -> Answer:
        """The head of the answer, or the error instead."""
        return await self.task

    async def is_over(self) -> None:
        """The app has ended, and its call is counted no more."""
        for _ in range(5):
            await asyncio.sleep(0)
        assert self.inside.busy == 0


async def read(receive: Receive) -> bytes:
    """The whole body of a request."""
    data, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        data, more = data + message["body"], message["more_body"]
    return data


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answer with the body, as soon as it is there."""
    data = await read(receive)
    await start(send)
    await piece(send, data)


# Deadlines


@pytest.mark.parametrize("pieces", [0, 1, 50])
def test_a_slow_upload_has_its_time(pieces: int) -> None:
    """However long a client sends: the app is not too late before the request is there."""

    async def main() -> None:
        body, _ = upload(length=CHUNKED, end=False)
        call = Call(echo, body)
        for _ in range(pieces):
            await asyncio.sleep(TOTAL / 2)
            body.feed(b"x")
        await asyncio.sleep(3 * TOTAL)
        assert not call.task.done()
        body.end()
        assert (await call.answered()).body == b"x" * pieces
        await call.is_over()

    run(main())


@pytest.mark.parametrize("length", [CHUNKED, 5])
def test_the_time_counts_from_the_end_of_the_request(length: int) -> None:
    """From then on the app has `total`, and is cancelled when it is over."""
    cancelled: list[float] = []

    async def thoughtful(scope: Message, receive: Receive, send: Send) -> None:
        try:
            await read(receive)
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(asyncio.get_running_loop().time())
            raise

    async def main() -> None:
        body, _ = upload(length=length, end=False)
        call = Call(thoughtful, body)
        await asyncio.sleep(100)
        body.feed(b"hello")
        body.end()
        with pytest.raises(UpstreamTimeout) as caught:
            await call.answered()
        assert (caught.value.status, call.seconds) == (504, 100 + TOTAL)
        await call.is_over()
        assert cancelled == [call.began + 100 + TOTAL]

    run(main())


@pytest.mark.parametrize("body", [None, b"", b"hello"])
def test_a_request_that_is_there(body: bytes | None) -> None:
    """Its time counts from the beginning, whether the app looks at the body or not."""

    async def thoughtful(scope: Message, receive: Receive, send: Send) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        call = Call(thoughtful, None if body is None else upload(body)[0])
        with pytest.raises(UpstreamTimeout):
            await call.answered()
        assert call.seconds == TOTAL
        await call.is_over()

    run(main())


def test_an_app_that_reads_nothing_is_too_late_as_well() -> None:
    """What it does not look at comes in all the same, and then its time begins."""

    async def deaf(scope: Message, receive: Receive, send: Send) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        body, _ = upload(length=CHUNKED, end=False)
        call = Call(deaf, body)
        await asyncio.sleep(100)
        body.feed(b"x")
        body.end()
        with pytest.raises(UpstreamTimeout):
            await call.answered()
        assert call.seconds == 100 + TOTAL
        await call.is_over()

    run(main())


@pytest.mark.parametrize("uploading", [False, True])
def test_an_answer_that_has_begun_has_no_deadline(uploading: bool) -> None:
    """A stream of an hour passes whole; so it does where the request comes in for as long."""

    async def stream(scope: Message, receive: Receive, send: Send) -> None:
        await start(send)
        for _ in range(60):
            await asyncio.sleep(TOTAL - 1)
            await piece(send, b"x", more=True)
        await read(receive)
        await piece(send, b"!")

    async def main() -> None:
        body = upload(length=CHUNKED, end=False)[0] if uploading else None
        call = Call(stream, body)
        answer = await call.answered()
        ended = answer.pipe(call.sink)
        await asyncio.sleep(10 * TOTAL)
        if body is not None:
            body.end()
        await ended
        assert (call.sink.data, call.sink.finished) == (b"x" * 60 + b"!", True)
        await call.is_over()

    run(main())


def test_an_app_that_answers_before_the_end_of_the_request() -> None:
    """What is still to come reaches it, and no deadline begins when it has come."""
    got: list[bytes] = []

    async def hasty(scope: Message, receive: Receive, send: Send) -> None:
        await start(send)
        await piece(send, b"wait", more=True)
        got.append(await read(receive))
        await asyncio.sleep(10 * TOTAL)
        await piece(send, b" for it")

    async def main() -> None:
        body, _ = upload(length=CHUNKED, end=False)
        call = Call(hasty, body)
        answer = await call.answered()
        ended = answer.pipe(call.sink)
        body.feed(b"late")
        body.end()
        await ended
        assert (call.sink.data, got) == (b"wait for it", [b"late"])
        await call.is_over()

    run(main())


def test_an_app_that_does_not_let_go() -> None:
    """The caller gets the timeout; what the app sends later is dropped, and its call is counted until it ends."""
    refused: list[bool] = []

    async def stubborn(scope: Message, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(100)
        await start(send)
        await piece(send, b"at last")
        refused.append(True)

    async def main() -> None:
        call = Call(stubborn)
        with pytest.raises(UpstreamTimeout):
            await call.answered()
        assert (call.seconds, call.inside.busy) == (TOTAL, 1)
        await asyncio.sleep(100)
        await call.is_over()
        assert call.sink.data == b""
        assert refused == [True]

    run(main())


# Bugs


WHENS = ["before", "after the head", "in the body"]


def falling(error: BaseException, when: str) -> APP:
    """An app that ends by an error, at some point of its answer."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if when != "before":
            await start(send)
        if when == "in the body":
            await piece(send, b"a", more=True)
        await asyncio.sleep(1)
        raise error

    return app


@pytest.mark.parametrize("uploading", [False, True])
@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError("a driver's"),
        KeyError("k"),
        ExceptionGroup("g", [KeyError("k"), OSError()]),
        StopAsyncIteration(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_an_app_ends_by(error: BaseException, when: str, uploading: bool) -> None:
    """A bug of the endpoint fails the answer at once, wherever it is: no silence, and no clean end."""

    async def main() -> None:
        body = upload(length=CHUNKED, end=False)[0] if uploading else None
        call = Call(falling(error, when), body)
        with pytest.raises(InternalError) as caught:
            answer = await call.answered()
            assert when == "in the body"
            await answer.pipe(call.sink)
        assert (call.seconds, call.sink.finished) == (1.0, False)
        if not isinstance(error, asyncio.CancelledError):
            assert caught.value.__cause__ is error
        await call.is_over()
        if body is not None:
            body.feed(b"nobody listens")
            body.end()

    run(main())


def test_an_app_that_is_cancelled_by_what_it_awaits() -> None:
    """A task of the app's own that was cancelled does not count as the client's leaving."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        own = asyncio.create_task(asyncio.sleep(3600))
        asyncio.get_running_loop().call_later(1, own.cancel)
        await own

    async def main() -> None:
        call = Call(app)
        with pytest.raises(InternalError):
            await call.answered()
        assert call.seconds == 1.0
        await call.is_over()

    run(main())


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyError("k")])
def test_an_answer_that_was_whole_stands(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """What the app does after it is its own affair; a bug is in the log, once."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await start(send)
        await piece(send, b"hello")
        await asyncio.sleep(1)
        raise error

    async def main() -> None:
        call = Call(app)
        answer = await call.answered()
        assert answer.body == b"hello"
        await asyncio.sleep(2)
        await call.is_over()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert len(caplog.records) == (not isinstance(error, asyncio.CancelledError))


# Clients that leave


@pytest.mark.parametrize("after", [0, 1, 30])
def test_a_client_that_leaves_in_the_middle_of_its_request(after: int) -> None:
    """The app is cancelled where it waits for more; nothing of the rest is kept, nor any deadline."""
    seen: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append("begun")
        try:
            await read(receive)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        body, _ = upload(length=CHUNKED, end=False)
        call = Call(app, body)
        for _ in range(after):
            await asyncio.sleep(0)
        body.feed(b"x")
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.task
        await call.is_over()
        assert call.outgoing.deadline == NEVER
        await asyncio.sleep(10 * TOTAL)

    run(main())
    assert seen in ([], ["begun", "cancelled"])


@pytest.mark.parametrize("paused", [False, True])
def test_a_client_that_leaves_in_the_middle_of_its_answer(paused: bool) -> None:
    """The app is cancelled, be it that it waits because the client read slowly."""
    seen: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await start(send)
        try:
            while True:
                await piece(send, b"x" * 50_000, more=True)
                await asyncio.sleep(1)
        finally:
            seen.append("ended")

    async def main() -> None:
        call = Call(app)
        answer = await call.answered()
        answer.pipe(call.sink)
        if paused:
            answer.pause()
        await asyncio.sleep(10)
        assert seen == []
        answer.abort()
        await call.is_over()
        assert seen == ["ended"]
        answer.abort()  # twice is once
        await asyncio.sleep(10)
        assert not call.sink.finished

    run(main())


def test_an_app_that_cleans_up_when_a_client_leaves() -> None:
    """It may take its time, and send what is dropped; its call is counted as long as it runs."""
    seen: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await start(send)
        await piece(send, b"a", more=True)
        try:
            await asyncio.sleep(3600)
        finally:
            try:
                await piece(send, b"nobody")
            except OSError:
                seen.append("nobody left")
            await asyncio.sleep(5)
            seen.append("cleaned up")

    async def main() -> None:
        call = Call(app)
        answer = await call.answered()
        answer.pipe(call.sink)
        await asyncio.sleep(1)
        answer.abort()
        await asyncio.sleep(1)
        assert (seen, call.inside.busy) == (["nobody left"], 1)
        await asyncio.sleep(5)
        await call.is_over()
        assert seen == ["nobody left", "cleaned up"]
        assert call.sink.data == b"a"

    run(main())


def test_many_that_leave() -> None:
    """However many calls begin and are cancelled at any moment, none is counted in the end."""

    async def main() -> None:
        inside = InProcess(echo, asyncio.get_running_loop())
        for turns in range(40):
            body, _ = upload(length=CHUNKED, end=False)
            block = b"\r\nHost: a"
            outgoing = Outgoing("POST", b"POST / HTTP/1.1", block, body, Timeouts(), NEVER)
            task = asyncio.create_task(inside.send(outgoing, Collected()))
            for turn in range(turns):
                await asyncio.sleep(0)
                if turn == turns // 2:
                    body.feed(b"x")
                    body.end()
            task.cancel()
            await asyncio.wait([task])
        for _ in range(5):
            await asyncio.sleep(0)
        assert inside.busy == 0

    run(main())
