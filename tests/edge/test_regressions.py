"""Faults of the edge that were found once, without sockets: each of them stays found."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from propylon.edge.asgi import serve
from propylon.edge.body import Body
from propylon.edge.protocol import GatewayProtocol
from propylon.edge.state import STATE_KEY
from propylon.errors import InvalidRequest, PayloadTooLarge
from propylon.loop.signal import Signal
from propylon.wire.headers import without
from propylon.wire.message import CHUNKED
from propylon.wire.request import HeadReader
from tests.edge.test_asgi import HOST, App, scope
from tests.proxy.doubles import Asked, Streamed, route, service, streamed, whole
from tests.support.virtual import run
from tests.upstream.peer import Tap, until

LOCAL = 600
NOWHERE = b"GET /nowhere HTTP/1.1\r\nHost: a.test\r\n\r\n"
SMUGGLED = b"GET /a/SMUGGLED HTTP/1.1\r\nHost: a.test\r\n\r\n"
SHORT = 0.05  # seconds: some ticks


class Wire(asyncio.Transport):
    """A client's transport; `stuck`: it takes nothing, and what is written stays in the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.stuck = False
        self.calls: list[str] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A peer, and no socket to ask."""
        return ("192.0.2.1", 1234) if name == "peername" else default

    def write(self, data: Any) -> None:
        """Keep it."""
        assert not self.calls, "written after a close"
        self.written += data

    def get_write_buffer_size(self) -> int:
        """All of it, or nothing."""
        return len(self.written) if self.stuck else 0

    def is_closing(self) -> bool:
        """Whether it was told to close."""
        return bool(self.calls)

    def can_write_eof(self) -> bool:
        """As TLS does not."""
        return False

    def close(self) -> None:
        """Note it: what is buffered goes out first."""
        self.calls.append("close")

    def abort(self) -> None:
        """Note it."""
        self.calls.append("abort")

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""


@contextmanager
def connected(app: App) -> Iterator[tuple[GatewayProtocol, Wire]]:
    """A client's connection to the app, with a body's time of some ticks and long other ones."""
    app.edge.body_timeout = SHORT
    app.edge.idle_timeout = app.edge.header_timeout = 60.0
    state: Any = SimpleNamespace(connections=set())
    protocol = GatewayProtocol(None, state, {STATE_KEY: app.edge})
    wire = Wire()
    protocol.connection_made(wire)
    yield protocol, wire
    protocol.connection_lost(None)
    assert not app.ticker._watched


async def pause() -> None:
    """Let more than a body's time go by."""
    await asyncio.sleep(SHORT * 3)


# Pipelined requests


@pytest.mark.parametrize("cut", [0, 1, 10, len(SMUGGLED) - 1, len(SMUGGLED)])
def test_a_body_that_comes_while_pipelined_requests_are_answered(cut: int) -> None:
    """It waits behind them: no write of a client's begins a request by itself."""

    async def main() -> None:
        app = App(upstream=(asked := Asked()))
        head = b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
        with connected(app) as (protocol, wire):
            protocol.data_received(NOWHERE * LOCAL + head + SMUGGLED[:cut])
            protocol.data_received(SMUGGLED[cut:] or b"\r\n")
            await until(lambda: wire.written.count(b"HTTP/1.1 ") > LOCAL)
            await pause()
        statuses = re.findall(rb"HTTP/1\.1 ([0-9]{3})", wire.written)
        assert statuses == [b"404"] * LOCAL + [b"200"]
        assert [(line, body) for line, _, body in asked.got] == [(b"POST /a HTTP/1.1", SMUGGLED)]

    run(main())


# Clients that do not read


def test_a_complete_answer_that_nobody_fetches() -> None:
    """A close waits for what is unsent; for as long as a body may take."""

    async def main() -> None:
        app = App()
        with connected(app) as (protocol, wire):
            wire.stuck = True
            protocol.data_received(b"GET /a HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            await until(lambda: wire.calls)
            assert wire.calls == ["close"]
            await until(lambda: "abort" in wire.calls)

    run(main())


class Held:
    """An upstream that answers when it is told to, whatever has come of the body."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = False
        self.go = asyncio.Event()

    async def send(self, outgoing: Any, sink: Any) -> Any:
        """Wait for the word."""
        if outgoing.body is not None:
            outgoing.body.pipe(Waiting())
        self.asked = True
        await self.go.wait()
        return self.answer


def test_a_client_that_is_congested_when_its_exchange_ends() -> None:
    """It has a body's time to read on, not an idle connection's."""

    async def main() -> None:
        app = App(upstream=(held := Held(whole())))
        with connected(app) as (protocol, wire):
            wire.stuck = True
            protocol.data_received(b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n")
            await until(lambda: held.asked)
            protocol.pause_writing()
            held.go.set()
            await until(lambda: wire.written)
            async with asyncio.timeout(1):
                while "abort" not in wire.calls:
                    await asyncio.sleep(0.005)

    run(main())


def test_a_client_that_is_congested_when_its_body_ends() -> None:
    """What it sent does not change that it reads nothing."""

    async def main() -> None:
        app = App(upstream=(held := Held(whole())))
        with connected(app) as (protocol, wire):
            wire.stuck = True
            head = b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\n"
            protocol.data_received(head + b"ab")
            await until(lambda: held.asked)
            protocol.pause_writing()
            protocol.data_received(b"cd")
            async with asyncio.timeout(1):
                while "abort" not in wire.calls:
                    await asyncio.sleep(0.005)

    run(main())


def test_a_client_that_reads_slowly() -> None:
    """Each time that less is unsent, it has a body's time more; then no more."""

    async def main() -> None:
        app = App(upstream=Asked(streamed(b"x" * 1000)))
        with connected(app) as (protocol, wire):
            wire.stuck = True
            wire.written += b"x" * 1000
            protocol.pause_writing()
            for _ in range(30):
                await asyncio.sleep(SHORT / 5)
                del wire.written[:10]
            assert wire.calls == []
            await until(lambda: "abort" in wire.calls)

    run(main())


# Clients that have half-closed


class Ticks(Streamed):
    """An answer that says something as often as it is told to, and does not end."""

    def pipe(self, sink: Any) -> Signal[None]:
        """Say the first thing."""
        self.sink = sink
        sink.write(b"tick")
        return Signal()


@asynccontextmanager
async def listening(ticks: Ticks) -> AsyncIterator[tuple[GatewayProtocol, Wire]]:
    """A client that has read the beginning of the answer."""
    with connected(App(upstream=Asked(ticks))) as (protocol, wire):
        wire.can_write_eof = lambda: True  # type: ignore[method-assign]
        protocol.data_received(b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n")
        await until(lambda: b"tick" in wire.written)
        yield protocol, wire


def test_a_quiet_stream_ends_when_its_client_has_half_closed() -> None:
    """A browser that has left sends no more than a FIN, and a stream that writes nothing gets no reset."""

    async def main() -> None:
        async with listening(ticks := Ticks(streamed().head, [])) as (protocol, wire):
            assert protocol.eof_received()
            await asyncio.sleep(29)
            assert (ticks.aborted, wire.calls) == (0, [])
            await asyncio.sleep(2)
            assert (ticks.aborted, wire.calls) == (1, ["abort"])

    run(main())


def test_a_stream_that_goes_on_is_kept_for_a_half_closed_client() -> None:
    """The client of `printf … | nc` gets all of it; so does one that does not half-close, and waits."""

    async def main() -> None:
        async with listening(ticks := Ticks(streamed().head, [])) as (protocol, wire):
            await asyncio.sleep(200)
            assert protocol.eof_received()
            for _ in range(10):
                await asyncio.sleep(20)
                ticks.sink.write(b"tick")
            assert (ticks.aborted, wire.calls) == (0, [])

    run(main())


# Bodies


@pytest.mark.parametrize(
    ("pieces", "gone_out"),
    [
        ([b"12345GET /admin HTTP/1.1\r\nHost: evil\r\n\r\n"], b""),
        ([b"123", b"45GET /admin"], b"123"),
        ([b"12345", b"X"], b"12345"),
        ([b"123"], b"123"),
        ([b""], b""),
    ],
    ids=["longer", "longer-later", "one-more", "shorter", "empty"],
)
def test_a_length_that_a_server_does_not_check(pieces: list[bytes], gone_out: bytes) -> None:
    """A body of another length than its header says is 400; no surplus goes out, and no end."""

    async def main() -> None:
        app = App(upstream=(asked := Waiting()))
        app.silent = True
        last = len(pieces) - 1
        app.incoming.extend(
            {"type": "http.request", "body": piece, "more_body": number < last}
            for number, piece in enumerate(pieces)
        )
        headers = [HOST, (b"content-length", b"5")]
        status, _, body = await app.ask(method="POST", headers=headers)
        assert (status, orjson.loads(body)["error"]["code"]) == (400, "INVALID_REQUEST")
        assert (asked.data, asked.ended) == (gone_out, False)

    run(main())


class Waiting:
    """An upstream that answers when it has the whole body."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False
        self._complete = asyncio.Event()

    def body_data(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def body_end(self, trailers: bytes = b"") -> None:
        """Answer."""
        self.ended = True
        self._complete.set()

    async def send(self, outgoing: Any, sink: Any) -> Any:
        """Wait for the body."""
        outgoing.body.pipe(self)
        await self._complete.wait()
        return whole()


def test_a_body_that_is_exactly_as_long_as_it_says() -> None:
    """Passes, in whatever pieces."""

    async def main() -> None:
        app = App(upstream=(asked := Waiting()))
        app.silent = True
        for piece, more in ((b"12", True), (b"", True), (b"345", False)):
            app.incoming.append({"type": "http.request", "body": piece, "more_body": more})
        status, _, _ = await app.ask(method="POST", headers=[HOST, (b"content-length", b"5")])
        assert (status, asked.data, asked.ended) == (200, b"12345", True)

    run(main())


def test_a_body_too_large_before_anybody_wants_it() -> None:
    """The route's limit holds from the moment that it is known."""
    body = Body(CHUNKED, Tap(), None)
    body.feed(b"x" * 5)
    body.limit = 10
    body.feed(b"x" * 5)
    with pytest.raises(PayloadTooLarge):
        body.feed(b"x")


@pytest.mark.parametrize("data", [b"", b"1234", b"123456"])
def test_a_body_of_another_length(data: bytes) -> None:
    """Neither more nor less than it said."""
    body = Body(5, Tap(), None)

    def arrive() -> None:
        body.feed(data)
        body.end()

    with pytest.raises(InvalidRequest):
        arrive()
    assert not body.complete


# Heads


def test_names_that_a_client_chose_make_no_pattern() -> None:
    """They are compared, whatever they hold."""
    names = [b"x%d" % number for number in range(15_000)]
    block = b"\r\nX7: a\r\n.*: b\r\nY: c\r\nX14999: d"
    assert without(block, names) == b"\r\n.*: b\r\nY: c"
    assert without(block, [b".*"]) == b"\r\nX7: a\r\nY: c\r\nX14999: d"


def test_a_large_head_is_not_remembered() -> None:
    """What an idle connection keeps is small."""
    reader = HeadReader()
    large = b" HTTP/1.1\r\nHost: a.test\r\nX-Large: %b\r\n\r\n" % (b"x" * 5000)
    reader.read(b"GET /a" + large)
    assert reader.again(b"GET /b" + large, 64 * 1024) is None


def test_the_limit_of_a_head_that_is_like_the_last() -> None:
    """A short way to read it is no way round the limit."""

    async def main() -> None:
        app = App(upstream=(asked := Asked()), max_header=500)
        with connected(app) as (protocol, wire):
            tail = b" HTTP/1.1\r\nHost: a.test\r\n\r\n"
            protocol.data_received(b"GET /a" + tail)
            await until(lambda: wire.written.startswith(b"HTTP/1.1 200 "))
            protocol.data_received(b"GET /a/" + b"x" * 1000 + tail)
            await until(lambda: wire.written.count(b"HTTP/1.1 ") == 2)
        assert b"HTTP/1.1 431 " in wire.written or b"HTTP/1.1 414 " in wire.written
        assert len(asked.got) == 1

    run(main())


def test_a_mount_is_a_whole_segment() -> None:
    """A path that only begins with the same letters is not below it."""

    async def main() -> None:
        app = App(route("/mountain", service(asked := Asked())))
        await serve(
            app.edge,
            scope(root_path="/mount", raw_path=b"/mountain", path="/mountain"),
            app.receive,
            app.send,
        )
        assert [line for line, _, _ in asked.got] == [b"GET /mountain HTTP/1.1"]

    run(main())


# What an idle connection keeps


def test_an_idle_connection_forgets_its_head_before_it_is_closed() -> None:
    """After some seconds the head goes, after the rest of the time the connection; a request in between begins both anew."""

    async def main() -> None:
        app = App(upstream=Asked())
        with connected(app) as (protocol, wire):
            for answered in (1, 2):
                protocol.data_received(NOWHERE)
                await until(lambda seen=answered: wire.written.count(b"HTTP/1.1 404") == seen)
                assert protocol._head_reader.fields is not None
                assert 0 < protocol.deadline - app.ticker.now <= 5.0
                protocol.expire()
                assert protocol._head_reader.fields is None
                assert protocol.deadline == app.ticker.now + 55.0
            assert "close" not in wire.calls
            protocol.expire()
            assert "close" in wire.calls

    run(main())


def test_a_short_idle_time_is_kept() -> None:
    """A connection whose idle time is over before anything would be forgotten is closed in time."""

    async def main() -> None:
        app = App(upstream=Asked())
        with connected(app) as (protocol, wire):
            app.edge.idle_timeout = 3.0
            protocol.data_received(NOWHERE)
            await until(lambda: b"HTTP/1.1 404" in wire.written)
            assert 0 < protocol.deadline - app.ticker.now <= 3.0
            protocol.expire()
            assert "close" in wire.calls

    run(main())
