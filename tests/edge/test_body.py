"""A request's body while it comes in."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.edge.body import Body
from propylon.errors import PayloadTooLarge
from propylon.wire.message import CHUNKED
from tests.upstream.peer import Tap

KEPT = 64 * 1024


class Taker:
    """A body sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.ends = 0

    def body_data(self, data: bytes) -> None:
        """Keep it."""
        assert not self.ends
        self.data += data

    def body_end(self, trailers: bytes = b"") -> None:
        """Count it."""
        self.ends += 1


def body_of(limit: int = 1 << 30, wanted: list[int] | None = None) -> tuple[Body, Tap]:
    """A chunked body."""
    tap = Tap()
    body = Body(CHUNKED, tap, None if wanted is None else lambda: wanted.append(1))
    body.limit = limit
    return body, tap


@given(
    st.lists(st.binary(max_size=20), max_size=8),
    st.integers(0, 8),
    st.lists(st.integers(0, 8), max_size=3),
)
def test_every_attempt_gets_all_of_it(pieces: list[bytes], ends: int, again: list[int]) -> None:
    """Whenever somebody starts to listen, they get it from the first byte, and one end."""
    body, _ = body_of()
    takers = [Taker()]
    body.pipe(takers[0])
    for number, piece in enumerate(pieces):
        if number in again:
            body.unpipe()
            takers.append(Taker())
            body.pipe(takers[-1])
        body.feed(piece)
    body.end()
    if ends % 2:
        takers.append(Taker())
        body.pipe(takers[-1])
    assert takers[-1].data == b"".join(pieces)
    assert takers[-1].ends == 1
    assert body.received == len(takers[-1].data)
    assert body.replayable


def test_what_comes_before_anybody_listens_is_kept() -> None:
    """As far as that goes: then the client waits."""
    body, tap = body_of()
    body.feed(b"x" * KEPT)
    assert not tap.paused
    body.feed(b"y")
    assert tap.paused
    taker = Taker()
    body.pipe(taker)
    assert (taker.data, tap.paused) == (b"x" * KEPT + b"y", False)
    assert not body.replayable


@pytest.mark.parametrize(("size", "replayable"), [(KEPT, True), (KEPT + 1, False)])
def test_what_is_kept_is_bounded(size: int, replayable: bool) -> None:
    """64 KiB can be sent again, one byte more cannot."""
    body, _ = body_of()
    taker = Taker()
    body.pipe(taker)
    for start in range(0, size, 1000):
        body.feed(b"x" * min(1000, size - start))
    body.end()
    assert (len(taker.data), body.replayable) == (size, replayable)
    body.unpipe()
    if replayable:
        again = Taker()
        body.pipe(again)
        assert again.data == taker.data
    else:
        with pytest.raises(RuntimeError):
            body.pipe(Taker())


@pytest.mark.parametrize(("size", "replayable"), [(KEPT, True), (KEPT + 1, False)])
def test_what_came_in_at_once_is_kept_no_longer(size: int, replayable: bool) -> None:
    """The bound is the same for a body that was complete before anybody took it."""
    body, _ = body_of()
    body.feed(b"x" * size)
    body.end()
    taker = Taker()
    body.pipe(taker)
    assert (len(taker.data), body.replayable) == (size, replayable)


@pytest.mark.parametrize("size", [10, 11])
@pytest.mark.parametrize("order", ["piped first", "fed first"])
def test_limit(size: int, order: str) -> None:
    """One byte too many is 413; it does not go out."""
    body, _ = body_of(limit=10)
    taker = Taker()

    def feed() -> None:
        body.feed(b"x" * 9)
        body.feed(b"x" * (size - 9))

    steps = [lambda: body.pipe(taker), feed]
    if order == "fed first":
        steps.reverse()
    if size > 10:
        with pytest.raises(PayloadTooLarge):
            for step in steps:
                step()
        assert len(taker.data) <= 10
    else:
        for step in steps:
            step()
        assert taker.data == b"x" * 10


def test_the_client_is_told_to_go_on_once() -> None:
    """`100 Continue`: when somebody first asks for the body, and only if none has come."""
    wanted: list[int] = []
    body, _ = body_of(wanted=wanted)
    body.pipe(Taker())
    body.unpipe()
    body.pipe(Taker())
    assert wanted == [1]
    early: list[int] = []
    body, _ = body_of(wanted=early)
    body.feed(b"x")
    body.pipe(Taker())
    assert early == []


def test_pause_and_resume_reach_the_client() -> None:
    """Until the body is complete: then there is nothing to wait for."""
    body, tap = body_of()
    body.pause()
    assert tap.paused
    body.resume()
    assert not tap.paused
    body.end()
    body.pause()
    assert not tap.paused


def test_a_body_that_is_complete() -> None:
    """Nobody is asked for more."""
    body, tap = body_of()
    body.feed(b"all")
    body.end()
    tap.paused = True
    taker = Taker()
    body.pipe(taker)
    assert (taker.data, taker.ends, body.started, tap.paused) == (b"all", 1, True, True)


def test_nobody_listens_any_more() -> None:
    """What comes in after an attempt is kept for the next one."""
    body, _ = body_of()
    first, second = Taker(), Taker()
    body.pipe(first)
    body.feed(b"a")
    body.unpipe()
    body.feed(b"b")
    body.pipe(second)
    assert (first.data, second.data) == (b"a", b"ab")


class Impatient(Taker):
    """A sink that has the client wait at its first piece."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def body_data(self, data: bytes) -> None:
        """Take it, and say that this is enough for now."""
        super().body_data(data)
        self.body.pause()


def test_a_pause_is_not_forgotten_by_pipe() -> None:
    """A sink that is full after what was kept has the client wait."""
    body, tap = body_of()
    body.feed(b"x" * 1000)
    body.pipe(Impatient(body))
    assert tap.paused


def gathered(body: Body, steps: list[bytes]) -> bytes | None:
    """What `gathered` returns, and that nothing of it is lost for who listens afterwards."""

    async def scene() -> bytes | None:
        waiting = asyncio.ensure_future(body.gathered())
        await asyncio.sleep(0)
        for step in steps:
            body.feed(step)
        if sum(map(len, steps)) <= KEPT:
            body.end()
        return await waiting

    found = asyncio.run(scene())
    taker = Taker()
    body.pipe(taker)
    assert taker.data == b"".join(steps)
    return found


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_a_gathered_body_is_whole(pieces: list[bytes]) -> None:
    """Whatever it came in; and it can still be sent, more than once."""
    body, _ = body_of()
    assert gathered(body, pieces) == b"".join(pieces)
    assert body.replayable


@pytest.mark.parametrize("more", [0, 1])
def test_a_body_is_gathered_as_far_as_it_is_kept(more: int) -> None:
    """One byte more, and nobody waits for the rest: the client is paused until somebody listens."""
    body, _ = body_of()
    pieces = [b"x" * (KEPT // 2), b"y" * (KEPT // 2 + more)]
    assert gathered(body, pieces) == (None if more else b"".join(pieces))


def test_a_body_that_says_that_it_is_too_large_is_not_waited_for() -> None:
    """Its first byte has not come, and the client was not told to go on."""
    wanted: list[int] = []
    body = Body(KEPT + 1, Tap(), lambda: wanted.append(1))
    with pytest.raises(StopIteration) as done:
        body.gathered().send(None)
    assert (done.value.value, wanted) == (None, [])


def test_who_waits_for_100_is_told_once() -> None:
    """By whoever needs the body first."""
    wanted: list[int] = []
    body, _ = body_of(wanted=wanted)
    assert gathered(body, [b"x"]) == b"x"
    assert wanted == [1]
