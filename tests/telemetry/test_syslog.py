"""Syslog (RFC 5424) over a Unix socket, UDP and TCP: the messages, and a daemon that goes and comes."""

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from propylon.telemetry.syslog import Syslog, Target, as_syslog

RENDER = as_syslog("local3", "gate")
# RFC 5424, 6: the header, and no structured data.
MESSAGE = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) gate (\d+) (\S{1,32}) - (\{.*\})"
)


class Kept:
    """Hears how writing goes."""

    def __init__(self) -> None:
        self.lines = self.outages = self.good = 0

    def lost(self, error: OSError, batch: bytes) -> None:
        """Count the lines."""
        assert isinstance(error, OSError)
        self.lines += batch.count(b"\n")
        self.outages += 1

    def well(self) -> None:
        """Count the batch."""
        self.good += 1


def line(event: str = "request", level: str = "info", **more: Any) -> bytes:
    """A rendered record."""
    return RENDER({"time": "2026-12-01T10:11:12.345Z", "level": level, "event": event, **more})


@pytest.fixture
def daemon(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[socket.socket, Target]]:
    """A daemon's socket of the kind in turn, and where it is."""
    if request.param == "unix":
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.bind(str(tmp_path / "log"))
        target = Target("unix", path=str(tmp_path / "log"))
    else:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        target = Target("udp", host="127.0.0.1", port=made.getsockname()[1])
    made.settimeout(20)
    with closing(made):
        yield made, target


@pytest.mark.parametrize("daemon", ["unix", "udp"], indirect=True)
def test_a_message_is_a_datagram(daemon: tuple[socket.socket, Target]) -> None:
    """One for each line of a batch, without a line end, with priority, time, names and JSON."""
    made, target = daemon
    heard = Kept()
    with closing(Syslog(target, heard)) as syslog:
        syslog(line(path="/é") + line("reload: nothing changes", "error"))
        first, second = made.recv(65536), made.recv(65536)
    match = MESSAGE.fullmatch(first)
    assert match is not None, first
    assert (int(match[1]), match[5]) == (19 * 8 + 6, b"request")
    assert match[2] == b"2026-12-01T10:11:12.345Z"
    assert orjson.loads(match[6])["path"] == "/é"
    match = MESSAGE.fullmatch(second)
    assert match is not None, second
    assert (int(match[1]), match[5]) == (19 * 8 + 3, b"message")
    assert (heard.good, heard.lines) == (1, 0)


@pytest.mark.parametrize("daemon", ["unix", "udp"], indirect=True)
def test_a_long_message_is_cut(daemon: tuple[socket.socket, Target]) -> None:
    """A datagram that no daemon takes would be lost whole."""
    made, target = daemon
    with closing(Syslog(target, Kept())) as syslog:
        syslog(line(path="x" * 100_000))
        assert len(made.recv(65536)) == 8192


def test_tcp_frames_count_their_bytes() -> None:
    """RFC 6587, 3.4.1: the length, a blank, the message; in one stream."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Target("tcp", host="127.0.0.1", port=server.getsockname()[1])
        with closing(Syslog(target, Kept())) as syslog:
            syslog(line(path="/é") + line())
            peer, _ = server.accept()
            syslog(line("audit"))
        with peer, peer.makefile("rb") as stream:
            data = stream.read()
    found = []
    while data:
        length, _, rest = data.partition(b" ")
        found.append(rest[: int(length)])
        data = rest[int(length) :]
    assert [MESSAGE.fullmatch(one) is not None for one in found] == [True] * 3


def test_a_tcp_daemon_that_restarts_gets_what_comes_then() -> None:
    """The connection that it closed is noticed before the next batch, which would be lost in it."""
    now, heard = [0.0], Kept()
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Target("tcp", host="127.0.0.1", port=server.getsockname()[1])
        with closing(Syslog(target, heard, clock=lambda: now[0])) as syslog:
            syslog(line(path="/1"))
            peer, _ = server.accept()
            peer.recv(65536)
            peer.close()
            while not syslog._has_gone():  # the end of the connection is on its way
                continue
            syslog(line(path="/2"))
            again, _ = server.accept()
            with again:
                assert b'"/2"' in again.recv(65536)
    assert (heard.lines, heard.good) == (0, 2)


def test_while_the_daemon_is_away_lines_are_counted(tmp_path: Path) -> None:
    """It is tried again after a second, and what comes then arrives."""
    now, heard = [0.0], Kept()
    place = tmp_path / "log"
    with closing(Syslog(Target("unix", path=str(place)), heard, clock=lambda: now[0])) as syslog:
        syslog(line() + line())
        assert heard.lines == 2
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            made.bind(str(place))
            made.settimeout(20)
            syslog(line())
            assert heard.lines == 3  # not tried yet
            now[0] = 1.0
            syslog(line(path="/back"))
            assert b"/back" in made.recv(65536)
        now[0] = 2.0
        syslog(line())
        assert (heard.lines, heard.good) == (4, 1)


def test_a_name_that_does_not_resolve_is_an_outage() -> None:
    """As any other failure."""
    heard = Kept()
    Syslog(Target("udp", host="nowhere.invalid", port=514), heard)(line())
    assert heard.lines == 1
