"""An answer that is compressed while it comes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import UpstreamReset
from propylon.loop.signal import Signal
from propylon.proxy.coding.codecs import CODINGS, SLICE, encoder
from propylon.proxy.coding.stream import Encoded, Room
from propylon.upstream.ports import Sink
from propylon.upstream.reply import Reply
from propylon.wire.message import CHUNKED, Response
from tests.proxy.coding.unpacked import UNPACK, reader
from tests.support.examples import examples

HEAD = Response(200, b" 200 OK", b"", CHUNKED, keep_alive=True)


class Source:
    """An upstream's answer, whose body a test pushes."""

    head = HEAD
    body = None

    def __init__(self) -> None:
        self.sink: Sink | None = None
        self.ended: Signal[None] = Signal()
        self.said: list[str] = []

    def pipe(self, sink: Sink) -> Signal[None]:
        """Keep the sink."""
        self.sink = sink
        return self.ended

    def push(self, *pieces: bytes) -> None:
        """Push pieces, in one turn of the loop."""
        assert self.sink is not None
        for piece in pieces:
            self.sink.write(piece)

    def end(self, trailers: bytes = b"") -> None:
        """End the body."""
        assert self.sink is not None
        self.sink.finish(trailers)
        self.ended.set(None)

    def pause(self) -> None:
        """Note it."""
        self.said.append("pause")

    def resume(self) -> None:
        """Note it."""
        self.said.append("resume")

    def abort(self) -> None:
        """Note it."""
        self.said.append("abort")


class Client:
    """The sink of the compressed body."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.trailers: bytes | None = None
        self.came = asyncio.Event()
        self.on_write: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        """Keep a piece."""
        self.pieces.append(data)
        self.came.set()
        self.on_write()

    def finish(self, trailers: bytes = b"") -> None:
        """Keep the trailers."""
        assert self.trailers is None, "the body ends once"
        self.trailers = trailers

    def interim(self, head: Response) -> None:
        """Nothing comes."""

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces)


class Counted:
    """An encoder that notes how much it gets in which turn of the loop."""

    def __init__(self) -> None:
        self.turn = 0
        self.slices: list[tuple[int, int]] = []
        self.loop = asyncio.get_running_loop()
        self.loop.call_soon(self._count)

    def _count(self) -> None:
        self.turn += 1
        if self.turn < 10_000:
            self.loop.call_soon(self._count)

    def write(self, data: bytes) -> bytes:
        """Note it, and make nothing of it."""
        self.slices.append((self.turn, len(data)))
        return data

    def flush(self) -> bytes:
        """Nothing is held back."""
        return b""

    finish = flush


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run in a loop of its own."""
    asyncio.run(test())


@pytest.mark.parametrize("coding", CODINGS)
def test_the_bytes_of_a_slow_upstream_come_through(coding: str) -> None:
    """What was sent can be read before anything else is sent."""

    async def test() -> None:
        source, client = Source(), Client()
        answer = Encoded(source, HEAD, encoder(coding, None)(), Room(9))
        ended = answer.pipe(client)
        read, got = reader(coding), b""
        for piece in (b"first", b"second" * 1000, b"3"):
            source.push(piece)
            before = len(got)
            while got[before:] != piece:
                await client.came.wait()
                client.came.clear()
                got += read(b"".join(client.pieces))
                client.pieces.clear()
        source.end(b"\r\nContent-Digest: x\r\nX-Sum: 1")
        await ended
        read(client.body)
        assert client.trailers == b"\r\nX-Sum: 1"

    run(test)


@pytest.mark.parametrize("whole", [True, False])
def test_a_large_piece_gives_the_loop_a_turn_after_each_slice(whole: bool) -> None:
    """No slice is larger than 16 KiB, and no two are compressed in the same turn."""

    async def test() -> None:
        counted, client, source = Counted(), Client(), Source()
        body = bytes(range(256)) * 2048
        answer = Encoded(Reply(HEAD, body, None) if whole else source, HEAD, counted, Room(9))
        ended = answer.pipe(client)
        if not whole:
            source.push(body[:100], body[100:], b"x" * 10)
            assert source.said == ["pause"]
            while "resume" not in source.said:
                await asyncio.sleep(0)
            assert len(client.body) == len(body) + 10
            source.end()
        await ended
        turns = [turn for turn, _ in counted.slices]
        assert len(set(turns)) == len(turns)
        assert max(size for _, size in counted.slices) <= SLICE
        assert client.body.startswith(body)

    run(test)


def test_a_slow_client_stops_everything() -> None:
    """Neither is more compressed, nor does the upstream go on, until the client has read."""

    async def test() -> None:
        counted, client, source = Counted(), Client(), Source()
        answer = Encoded(source, HEAD, counted, Room(9))
        ended = answer.pipe(client)
        client.on_write = answer.pause
        source.push(b"x" * SLICE * 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(client.pieces), source.said) == (1, ["pause"])
        source.end()
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(client.pieces), client.trailers) == (1, None)
        client.on_write = lambda: None
        answer.resume()
        await ended
        assert client.body == b"x" * SLICE * 3

    run(test)


def test_a_body_that_breaks_off_has_no_end() -> None:
    """The client must not take it for whole."""

    async def test() -> None:
        client, source = Client(), Source()
        ended = Encoded(source, HEAD, encoder("gzip", None)(), Room(9)).pipe(client)
        source.push(b"half" * 10_000)
        source.ended.fail(UpstreamReset("gone"))
        with pytest.raises(UpstreamReset):
            await ended
        before = client.body
        await asyncio.sleep(0.02)
        assert (client.body, client.trailers) == (before, None)

    run(test)


def test_a_room_has_so_many_places() -> None:
    """An answer gives its place back when it ends, when its client leaves, and when nobody knows of it any more."""

    async def test() -> None:
        room = Room(1)
        for end in ("end", "abort", "drop"):
            source = Source()
            answer = Encoded(source, HEAD, encoder("gzip", None)(), room)
            assert room.full
            ended = answer.pipe(Client())
            if end == "end":
                source.end()
                await ended
            elif end == "abort":
                answer.abort()
                answer.abort()
            source.sink, source.ended = None, Signal()
            del answer, ended
            assert not room.full

    run(test)


def test_a_client_that_leaves_ends_it() -> None:
    """The upstream is cancelled, and no timer is left."""

    async def test() -> None:
        client, source = Client(), Source()
        answer = Encoded(source, HEAD, encoder("gzip", None)(), Room(9))
        answer.pipe(client)
        source.push(b"x")
        await asyncio.sleep(0)
        answer.abort()
        before = client.body
        source.push(b"y" * 100_000)
        await asyncio.sleep(0.02)
        assert (client.body, client.trailers, source.said) == (before, None, ["abort"])

    run(test)


@given(
    st.sampled_from(CODINGS),
    st.lists(st.tuples(st.binary(max_size=20), st.integers(1, 4000), st.booleans()), max_size=8),
)
@examples(60)
def test_what_comes_out_is_what_went_in(coding: str, pieces: list[tuple[bytes, int, bool]]) -> None:
    """Whatever the pieces, with pauses of the client and turns of the loop between them."""

    async def test() -> None:
        client, source = Client(), Source()
        answer = Encoded(source, HEAD, encoder(coding, 1)(), Room(9))
        ended = answer.pipe(client)
        for data, times, waits in pieces:
            source.push(data * times)
            if waits:
                answer.pause()
                await asyncio.sleep(0)
                answer.resume()
        source.end()
        await ended
        assert UNPACK[coding](client.body) == b"".join(data * times for data, times, _ in pieces)

    run(test)
