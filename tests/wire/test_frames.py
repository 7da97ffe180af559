"""Frames are followed by their length fields, however the bytes arrive, and what passes is what came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.wire.frames import NO_CODE, FrameFollower, FrameLimits, close_frame, ping_frame
from tests.support.examples import examples
from tests.support.sockets import BINARY, CLOSE, PING, TEXT, close, frame, take

PAYLOADS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b"x" * size for size in (125, 126, 127, 65535, 65536)]),
)
FRAMES = st.lists(
    st.tuples(st.sampled_from([0, TEXT, BINARY, PING, 10]), PAYLOADS, st.booleans()), max_size=6
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, and a last one."""
    pieces, position = [], 0
    for size in sizes:
        pieces.append(data[position : position + size])
        position += size
    return [*pieces, data[position:]]


@given(FRAMES, st.lists(st.integers(0, 200), max_size=20))
@examples(200)
def test_all_bytes_pass_in_order(frames: list[tuple[int, bytes, bool]], sizes: list[int]) -> None:
    """Whole frames pass byte for byte, and at their end the follower stands between two frames."""
    data = b"".join(frame(opcode, payload, masked=masked) for opcode, payload, masked in frames)
    follower = FrameFollower()
    passed = b"".join(follower.follow(piece) for piece in cut(data, sizes))
    assert passed == data
    assert follower.left == 0
    assert not follower.noticed


@given(FRAMES, st.integers(0, 70_000))
@examples(200)
def test_what_is_held_back_is_less_than_a_head(
    frames: list[tuple[int, bytes, bool]], at: int
) -> None:
    """Wherever the bytes stop, what has passed ends within a payload or between two frames."""
    data = b"".join(frame(opcode, payload, masked=masked) for opcode, payload, masked in frames)
    at = min(at, len(data))
    follower = FrameFollower()
    passed = follower.follow(data[:at])
    assert at - len(passed) < 14
    rest = bytearray(passed)
    while take(rest) is not None:
        continue
    assert bool(rest) == bool(follower.left)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", [1, 3, 200])
def test_the_code_of_a_close_frame(masked: bool, size: int) -> None:
    """The first close frame's code is known, whatever the pieces, also through the mask."""
    data = frame(TEXT, b"hello", masked=masked) + close(4001, "bye", masked=masked)
    data += close(4002, masked=masked)
    follower = FrameFollower()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert b"".join(map(follower.follow, pieces)) == data
    assert (follower.close_code, follower.noticed) == (4001, True)


def test_a_close_frame_without_a_code() -> None:
    """It counts as 1005, which is what an end concludes."""
    follower = FrameFollower()
    follower.follow(frame(CLOSE))
    assert follower.close_code == NO_CODE


def test_a_close_frame_that_is_too_long_is_not_waited_for() -> None:
    """Its head passes at once: the other end refuses it."""
    data = frame(CLOSE, b"x" * 126)
    follower = FrameFollower()
    assert follower.follow(data[:20]) == data[:20]


@given(st.binary(max_size=300))
@examples(200)
def test_garbage_does_no_harm(data: bytes) -> None:
    """Whatever the bytes are, nothing is lost but the beginning of a head, and nothing is added."""
    follower = FrameFollower()
    passed = b"".join(follower.follow(data[at : at + 7]) for at in range(0, len(data), 7))
    assert data.startswith(passed)
    assert len(data) - len(passed) < 140


def test_a_refused_frame_does_not_pass() -> None:
    """What stands before it does; what is behind it is dropped, and a close frame in it is noticed."""
    follower = FrameFollower(FrameLimits(4, None, lambda: 0.0))
    before, after = frame(TEXT, b"four"), close(1000)
    assert follower.follow(before + frame(TEXT, b"five!") + after) == before
    assert (follower.refused, follower.noticed, follower.close_code) == (1009, True, 1000)


def test_a_message_is_the_sum_of_its_fragments() -> None:
    """A ping between them does not count."""
    limits = FrameLimits(10, None, lambda: 0.0)
    assert [limits(TEXT, 6), limits(0x80 | PING, 100), limits(0, 4), limits(0, 1)] == [
        0,
        0,
        0,
        1009,
    ]
    assert limits(0x80 | TEXT, 10) == 0


def test_messages_are_counted_by_time() -> None:
    """So many at once, and then as many as the rate says; fragments do not count, pings do."""
    now = [0.0]
    limits = FrameLimits(None, (2, 1.0), lambda: now[0])
    assert [limits(0x80 | TEXT, 1) for _ in range(3)] == [0, 0, 1008]
    assert limits(0, 1) == 0
    now[0] = 0.5
    assert [limits(0x80 | PING, 0), limits(0x80 | TEXT, 1)] == [0, 1008]


@pytest.mark.parametrize("key", [b"", b"\x01\x02\x03\x04"])
def test_own_frames(key: bytes) -> None:
    """A close frame and a ping are what a strict reader takes for one, masked where there is a key."""
    buffer = bytearray(close_frame(1001, "going away", key) + ping_frame(key))
    goodbye, ping = take(buffer), take(buffer)
    assert goodbye is not None
    assert ping is not None
    assert (goodbye.opcode, goodbye.code, goodbye.reason) == (CLOSE, 1001, "going away")
    assert (ping.opcode, ping.payload) == (PING, b"")
    assert goodbye.masked == ping.masked == bool(key)
    assert not buffer
