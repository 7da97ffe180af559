"""The two ends of a socket, without sockets: who is told what when the gateway, or one side, ends it."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.edge.splice import ABNORMAL, End, FrameEnd, FrameSplice, Splice
from propylon.wire.frames import FrameLimits, Inspect
from tests.support.examples import examples
from tests.support.sockets import CLOSE, PING, TEXT, Frame, close, frame, take

KEY = b"\x01\x02\x03\x04"


class Transport:
    """What an end writes to; it ends when it is told to."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.reading = True
        self.closed = self.aborted = self.eof = False

    def write(self, data: bytes) -> None:
        """Keep what is written."""
        assert not self.eof
        self.sent += data

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def abort(self) -> None:
        """Note it."""
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def pause_reading(self) -> None:
        """Note it."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note it."""
        self.reading = True

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def write_eof(self) -> None:
        """Note it."""
        self.eof = True

    def get_extra_info(self, name: str) -> None:
        """There is no socket."""

    def get_write_buffer_size(self) -> int:
        """Say how much waits."""
        return len(self.sent)

    def frames(self) -> list[Frame]:
        """The frames that were written; nothing else was."""
        buffer, found = bytearray(self.sent), []
        while (one := take(buffer)) is not None:
            found.append(one)
        assert not buffer
        return found

    @property
    def codes(self) -> list[int]:
        """The codes of the close frames that were written."""
        return [one.code for one in self.frames() if one.opcode == CLOSE]


class Loop:
    """A loop whose time passes when the case says so."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Keep it."""
        self.later.append((delay, lambda: callback(*arguments)))

    def passes(self, seconds: float) -> None:
        """Call what is due, each once."""
        due = [callback for delay, callback in self.later if delay <= seconds]
        self.later = [one for one in self.later if one[0] > seconds]
        for callback in due:
            callback()


class Joined:
    """A splice between two transports."""

    def __init__(self, inspect: Inspect | None = None, *, raw: bool = False) -> None:
        self.loop = Loop()
        loop = cast("asyncio.AbstractEventLoop", self.loop)
        self.lost: list[End] = []
        self.splice: Splice
        if raw:
            self.splice = Splice(End(), End(), loop, self.lost.append)
        else:
            client, upstream = FrameEnd(inspect), FrameEnd()
            self.splice = FrameSplice(client, upstream, loop, self.lost.append, lambda: KEY)
        self.client, self.upstream = Transport(), Transport()
        self.splice.join(
            cast("asyncio.Transport", self.client), cast("asyncio.Transport", self.upstream)
        )

    def from_client(self, data: bytes) -> None:
        """The client sends."""
        self.splice.client.data_received(data)

    def from_upstream(self, data: bytes) -> None:
        """The upstream sends."""
        self.splice.upstream.data_received(data)

    def end(self, end: End) -> None:
        """A connection ends."""
        end.connection_lost(None)


def test_between_frames_both_are_told_at_once() -> None:
    """Each side gets one close frame, masked to the upstream; when both have answered, both are closed."""
    both = Joined()
    both.from_client(frame(TEXT, b"hello"))
    both.splice.close(1001, "going away")
    both.splice.close(1008, "again")
    assert both.client.codes == both.upstream.codes == [1001]
    assert [one.masked for one in both.upstream.frames()] == [True, True]
    assert [one.masked for one in both.client.frames()] == [False]
    both.from_client(close(1001))
    both.from_upstream(close(1001, masked=False))
    assert both.client.closed
    assert both.upstream.closed
    assert both.client.codes == both.upstream.codes == [1001]
    both.end(both.splice.client)
    both.end(both.splice.upstream)
    assert both.splice.ended.done
    assert both.splice.ended.result() == 1001
    assert both.lost == [both.splice.client, both.splice.upstream]


@given(st.integers(1, 400), st.sampled_from([5, 130, 300]))
@examples(60)
def test_a_frame_under_way_is_ended_first(at: int, size: int) -> None:
    """Wherever the frame stands, its rest passes, and then the close frame; what is behind it does not."""
    both = Joined()
    data = frame(TEXT, b"x" * size)
    at = min(at, len(data))
    both.from_client(data[:at])
    both.splice.close(1001, "")
    both.from_client(data[at:] + frame(TEXT, b"dropped"))
    frames = both.upstream.frames()
    texts = [one.payload for one in frames if one.opcode == TEXT]
    # A frame of which nothing but a part of the head had come counts as not begun.
    assert texts in ([b"x" * size], [])
    assert frames[-1].code == 1001
    assert len(both.upstream.codes) == 1


def test_a_frame_that_does_not_end_is_cut() -> None:
    """After a second the connection that waits for its rest is cut; the other side was told."""
    both = Joined()
    both.from_client(frame(TEXT, b"x" * 100)[:50])
    both.splice.close(1001, "")
    assert both.client.codes == [1001]
    assert not both.upstream.aborted
    both.loop.passes(1.0)
    assert both.upstream.aborted
    assert not both.client.aborted
    both.loop.passes(4.0)
    assert both.client.aborted


def test_nothing_after_a_close_frame_of_its_own() -> None:
    """Where one side has said goodbye, the gateway adds nothing: the answer passes."""
    both = Joined()
    both.from_client(close(4000))
    both.splice.close(1001, "")
    assert both.upstream.codes == [4000]
    assert both.client.codes == []
    both.from_upstream(close(4000, masked=False))
    assert both.client.codes == [4000]
    assert both.splice.code == 4000


def test_a_server_that_does_not_close_is_closed() -> None:
    """When both sides have sent their close frames, the connections end within a few seconds."""
    both = Joined()
    both.from_client(close(1000))
    both.from_upstream(close(1000, masked=False))
    assert not both.client.closed
    both.loop.passes(4.0)
    assert both.client.closed
    assert both.upstream.closed


def test_a_slow_side_gets_all_that_is_on_its_way() -> None:
    """It is cut only when it takes nothing of it for a while."""
    both = Joined()
    both.from_client(frame(TEXT, b"x" * 1000) + close(1000))
    both.end(both.splice.client)
    both.loop.passes(4.0)
    assert both.upstream.closed
    del both.upstream.sent[:500]
    both.loop.passes(4.0)
    assert not both.upstream.aborted
    both.loop.passes(4.0)
    assert both.upstream.aborted


def test_the_upstream_is_gone() -> None:
    """The client is told 1011, and its answer closes the connection."""
    both = Joined()
    both.from_upstream(frame(TEXT, b"hello", masked=False))
    both.end(both.splice.upstream)
    assert both.client.codes == [1011]
    assert not both.client.closed
    both.from_client(close(1011))
    assert both.client.closed


def test_the_upstream_is_gone_within_a_frame() -> None:
    """The frame never ends: the client's connection is closed, and nothing is put into the frame."""
    both = Joined()
    data = frame(TEXT, b"x" * 100, masked=False)[:50]
    both.from_upstream(data)
    both.end(both.splice.upstream)
    assert both.client.closed
    assert bytes(both.client.sent) == data
    assert both.splice.code == ABNORMAL


def test_the_upstream_has_closed_and_is_gone() -> None:
    """Its close frame has passed: the client may answer, and is not told a second time."""
    both = Joined()
    both.from_upstream(close(1013, masked=False))
    both.end(both.splice.upstream)
    assert both.client.codes == [1013]
    assert not both.client.closed
    both.from_client(close(1013))
    assert both.client.closed
    assert both.splice.code == 1013


def test_the_client_is_gone() -> None:
    """Nothing is made up for the upstream: its connection is closed."""
    both = Joined()
    both.end(both.splice.client)
    assert both.upstream.closed
    assert both.upstream.codes == []
    assert both.splice.code == ABNORMAL


def test_a_refused_frame() -> None:
    """Nothing of it passes, in however many pieces it comes; both sides are told why, the upstream between two frames."""
    both = Joined(FrameLimits(10, None, lambda: 0.0))
    data = frame(TEXT, b"ok") + frame(TEXT, b"x" * 300) + frame(TEXT, b"behind")
    for at in range(0, len(data), 7):
        both.from_client(data[at : at + 7])
    assert [one.payload for one in both.upstream.frames() if one.opcode == TEXT] == [b"ok"]
    assert both.client.codes == both.upstream.codes == [1009]
    both.from_client(close(1009))
    assert both.client.closed


def test_pings_stand_between_frames() -> None:
    """A side within whose frame a ping would stand gets none; one that has sent nothing since the last is gone."""
    both = Joined()
    both.from_upstream(frame(TEXT, b"x" * 100, masked=False)[:50])
    assert both.splice.ping(KEY)
    assert bytes(both.client.sent).count(bytes([0x80 | PING])) == 0
    assert [one.opcode for one in both.upstream.frames()] == [PING]
    both.from_upstream(b"x" * 52)
    assert both.splice.ping(KEY)
    assert [one.opcode for one in both.client.frames()] == [TEXT, PING]
    assert not both.splice.ping(KEY)


@pytest.mark.parametrize("slow", ["client", "upstream"])
def test_back_pressure(slow: str) -> None:
    """A side that reads slowly pauses the other one, and counts as silent until it reads."""
    both = Joined()
    other = both.client if slow == "upstream" else both.upstream
    end = getattr(both.splice, slow)
    end.pause_writing()
    assert not other.reading
    before = both.splice.activity()
    (both.from_client if slow == "client" else both.from_upstream)(b"")
    assert both.splice.activity() == before
    end.resume_writing()
    assert other.reading


def test_a_raw_tunnel_half_closes() -> None:
    """The end of one direction passes; when both have ended, the connections close."""
    both = Joined(raw=True)
    both.from_client(b"\x88\x00 no frame")
    assert both.splice.client.eof_received()
    assert both.upstream.eof
    both.from_upstream(b"more")
    assert bytes(both.client.sent) == b"more"
    assert not both.splice.upstream.eof_received()
    both.end(both.splice.upstream)
    assert both.client.closed


def test_a_raw_tunnel_is_closed_without_a_word() -> None:
    """There is no close frame: what is on its way is sent, and then the connections end."""
    both = Joined(raw=True)
    both.splice.close(1001, "going away")
    assert both.client.closed
    assert both.upstream.closed
    assert not both.client.sent
    both.loop.passes(10)
    assert both.client.aborted
