"""The gateway's own lack of descriptors and ports: told from other failures, and logged now and then."""

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Iterator

import pytest

from propylon.errors import ConnectFailed, LocalFault
from propylon.names.exhausted import Faults, is_local
from propylon.names.resolve import LookupResult, Resolver
from tests.names.test_resolve import NAME, Clock, Told
from tests.upstream.peer import run

LOCAL = ["EMFILE", "ENFILE", "ENOBUFS", "EADDRNOTAVAIL"]


@pytest.mark.parametrize("kind", LOCAL)
def test_a_lack_is_local(kind: str) -> None:
    """Each of the four is the gateway's, and is named in the error for the log and the metric."""
    error = OSError(getattr(errno, kind), "no")
    assert is_local(error)
    fault = Faults().of(error)
    assert (fault.status, fault.reason, fault.source) == (503, kind, "gateway")


@pytest.mark.parametrize("kind", ["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ETIMEDOUT"])
def test_other_failures_are_the_upstreams(kind: str) -> None:
    """A refused, reset, unreachable or late connection is none of them, nor is an error without a number."""
    assert not is_local(OSError(getattr(errno, kind), "no"))
    assert not is_local(OSError("several addresses"))


def test_a_lack_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind has one line in ten seconds, however many requests fail."""
    clock = Clock()
    faults = Faults(clock)
    caplog.set_level(logging.ERROR, "propylon")
    for seconds in (0.0, 1.0, 8.9, 0.1, 5.0):
        clock.now += seconds
        for kind in LOCAL[:2]:
            faults.of(OSError(getattr(errno, kind), "no"))
    kinds = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert kinds == ["EMFILE", "ENFILE", "EMFILE", "ENFILE"]


@pytest.fixture
def full() -> Iterator[None]:
    """This process has no descriptor left, as long as the case takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno(), hard))
        held = []
        try:
            while True:
                held.append(socket.socket())
        except OSError:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for each in held:
                each.close()


def test_a_socket_tells_whether_there_is_a_lack() -> None:
    """While sockets can be made there is none."""
    assert Faults().now() is None


@pytest.mark.usefixtures("full")
def test_no_socket_can_be_made() -> None:
    """The system's own error says what is lacking."""
    fault = Faults().now()
    assert fault is not None
    assert fault.reason == "EMFILE"


class Lacking(Told):
    """A source that fails, as name lookups do for lack of a socket."""

    async def addresses(self, name: str) -> LookupResult[str]:
        """Fail as dnspython does: without the number of the system's error."""
        self.asked += 1
        if self.fails:
            raise ConnectFailed("no", reason="no name server answers")
        return LookupResult(self.values, self.ttl)


def test_a_lookup_without_a_socket_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a local fault, it is not cached, and known addresses stay."""
    lack: list[LocalFault] = [LocalFault("lacks", reason="EMFILE")]
    monkeypatch.setattr(Faults, "now", lambda _: lack[0] if lack else None)

    async def main() -> None:
        source, clock = Lacking("10.0.0.1"), Clock()
        resolver = Resolver(source, clock)
        source.fails = True
        for _ in range(2):
            with pytest.raises(LocalFault):
                await resolver.addresses(NAME)
        assert source.asked == 2
        source.fails = False
        assert await resolver.addresses(NAME) == ("10.0.0.1",)
        source.fails = True
        clock.now += 60
        assert await resolver.addresses(NAME) == ("10.0.0.1",)
        lack.clear()
        with pytest.raises(ConnectFailed):
            await resolver.addresses("other.example")

    run(main())


def test_a_name_is_followed_on_through_a_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instances do not leave because the gateway cannot look their name up."""
    monkeypatch.setattr(Faults, "now", lambda _: LocalFault("lacks", reason="EMFILE"))

    async def main() -> None:
        source, heard = Lacking("10.0.0.1"), []
        source.fails = True
        resolver = Resolver(source, Clock(), least_ttl=0.001)
        following = resolver.follow(NAME, heard.append)
        while source.asked < 3:
            await asyncio.sleep(0.001)
        assert heard == []
        assert not following.done()
        resolver.close()

    run(main())
