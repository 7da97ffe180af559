"""A request's body that is unpacked while it comes."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.edge.body import Body
from propylon.errors import GatewayError, InvalidRequest, PayloadTooLarge
from propylon.proxy.coding.decoders import CorruptBody, decoders
from propylon.proxy.coding.unpack import Bounds, Unpacker
from propylon.wire.message import CHUNKED
from tests.proxy.coding.unpacked import PACK
from tests.support.examples import examples

CODINGS = {**PACK, "deflate": zlib.compress}
DECODERS = decoders()
ZEROS = bytes(1_000_000)


class Flow:
    """Where the packed body comes from."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def pause(self) -> None:
        """Note it."""
        self.said.append("pause")

    def resume(self) -> None:
        """Note it."""
        self.said.append("resume")


class Sink:
    """Who takes the plain body."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = asyncio.Event()

    def body_data(self, data: bytes) -> None:
        """Keep a piece."""
        self.pieces.append(data)

    def body_end(self, trailers: bytes = b"") -> None:
        """Note the end."""
        self.ended.set()


class World:
    """A body that comes, packed by these codings in this order, and the plain one."""

    def __init__(self, *codings: str, most: int = 50_000_000, ratio: int = 10**9) -> None:
        self.flow = Flow()
        self.raw = Body(CHUNKED, self.flow, None)
        self.errors: list[GatewayError] = []
        self.failed = asyncio.Event()
        layers = [DECODERS[coding.encode()]() for coding in reversed(codings)]
        self.unpacker = Unpacker(self.raw, layers, Bounds(most, ratio), self.fail)
        self.plain = Body(CHUNKED, self.unpacker, None)
        self.unpacker.into(self.plain)
        self.sink = Sink()

    def fail(self, error: GatewayError) -> None:
        """Keep the error."""
        self.errors.append(error)
        self.failed.set()

    async def result(self) -> bytes:
        """The plain body. Raises what the exchange was ended with."""
        waits = [asyncio.ensure_future(one.wait()) for one in (self.sink.ended, self.failed)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()
        if self.errors:
            raise self.errors[0]
        return b"".join(self.sink.pieces)


def run(test: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run in a loop of its own."""
    return asyncio.run(test())


def unpacked(data: Sequence[bytes], *codings: str, **bounds: int) -> bytes:
    """What a service gets. Raises what the client gets."""

    async def test() -> bytes:
        world = World(*codings, **bounds)
        for piece in data:
            world.raw.feed(piece)
        world.raw.end()
        world.plain.pipe(world.sink)
        return await world.result()

    found: bytes = run(test)
    return found


@given(
    st.lists(st.sampled_from(sorted(CODINGS)), min_size=1, max_size=2),
    st.binary(max_size=300),
    st.integers(1, 400),
    st.lists(st.integers(1, 50), max_size=5),
)
@examples(150)
def test_a_body_is_what_it_was(
    codings: list[str], data: bytes, times: int, cuts: list[int]
) -> None:
    """In whatever pieces it comes, by one coding or two."""
    packed = data * times
    for coding in codings:
        packed = CODINGS[coding](packed)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(packed[at : at + cut])
        at += cut
    pieces.append(packed[at:])
    assert unpacked([piece for piece in pieces if piece], *codings) == data * times


@pytest.mark.parametrize("coding", sorted(CODINGS))
def test_a_bomb_is_413(coding: str) -> None:
    """By its size and by its ratio; of what it would become, only a little is ever made."""
    bomb = CODINGS[coding](ZEROS * 5)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge, match="1000000 bytes"):
            unpacked([bomb], coding, most=1_000_000)
        with pytest.raises(PayloadTooLarge, match="100 times"):
            unpacked([bomb], coding, ratio=100)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_bomb_that_makes_nothing_is_413() -> None:
    """What the outer coding makes counts, though the inner one makes nothing of it: gzip of many empty members."""
    nothing = gzip.compress(b"") * 200_000
    with pytest.raises(PayloadTooLarge):
        unpacked([gzip.compress(nothing)], "gzip", "gzip", most=1_000_000)


def test_a_short_body_has_any_ratio() -> None:
    """A kilobyte of the same field is fifty bytes."""
    assert unpacked([gzip.compress(ZEROS[:60_000])], "gzip", ratio=1) == ZEROS[:60_000]


@pytest.mark.parametrize("coding", sorted(CODINGS))
def test_a_cut_body_is_400(coding: str) -> None:
    """Wherever it is cut; one byte more or another byte is 400 as well."""
    packed = CODINGS[coding](b"a body that is long enough" * 3)
    for end in range(1, len(packed)):
        with pytest.raises(InvalidRequest):
            unpacked([packed[:end]], coding)
    for wrong in (packed + b"\xff", b"plain text", b"\0" * 100):
        with pytest.raises(InvalidRequest):
            unpacked([wrong], coding)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_follow_each_other(coding: str) -> None:
    """RFC 1952, 2.2, and RFC 8878, 3; in one piece and in many."""
    packed = CODINGS[coding](b"first ") + CODINGS[coding](b"") + CODINGS[coding](b"second")
    for pieces in ([packed], [packed[at : at + 1] for at in range(len(packed))]):
        assert unpacked(pieces, coding) == b"first second"


def test_an_empty_body_is_empty() -> None:
    """Whatever it is called."""
    assert unpacked([], "gzip") == b""


def test_nothing_is_unpacked_before_it_is_wanted() -> None:
    """A service that reads slowly stops the client, and little is kept meanwhile."""

    async def test() -> None:
        world = World("gzip")
        packed = gzip.compress(bytes(range(256)) * 40_000, 0)  # stored, so as long as it was
        world.raw.feed(packed[:1000])
        for _ in range(20):
            await asyncio.sleep(0)
        assert (world.plain.received, world.flow.said) == (0, [])
        world.plain.pipe(world.sink)
        world.plain.pause()
        for at in range(1000, 1_000_000, 1000):
            if world.flow.said[-1:] != ["pause"]:
                world.raw.feed(packed[at : at + 1000])
            await asyncio.sleep(0)
        assert world.plain.received < 200_000
        assert world.unpacker._waiting <= 66_000
        sent = world.raw.received
        world.plain.resume()
        world.raw.feed(packed[sent:])
        world.raw.end()
        assert len(await world.result()) == 256 * 40_000

    run(test)


def test_a_large_piece_gives_the_loop_a_turn() -> None:
    """Between two turns a few pieces are made, however large the body becomes."""

    async def test() -> None:
        world = World("br")
        world.raw.feed(CODINGS["br"](ZEROS * 4))
        world.raw.end()
        world.plain.pipe(world.sink)
        most, before = 0, 0
        while not (world.sink.ended.is_set() or world.errors):
            most, before = max(most, world.plain.received - before), world.plain.received
            await asyncio.sleep(0)
        assert 0 < most < 1_000_000
        assert await world.result() == ZEROS * 4

    run(test)


def test_windows_are_bounded() -> None:
    """A frame of Zstandard that wants 128 MiB to be read in is refused."""
    frame = bytes.fromhex("28b52ffd0088") + bytes(20)  # window descriptor 0x88: 2**27 bytes
    decoder = DECODERS[b"zstd"]()
    with pytest.raises(CorruptBody):
        decoder.read(frame, 1000)
