"""Where a name is looked up: the hosts file, the name servers, the system."""

import asyncio
import socket
from pathlib import Path

import pytest

from propylon.errors import ConnectFailed
from propylon.names import lookup
from propylon.names.getaddrinfo import Infos, System
from propylon.names.lookup import SYSTEM, Lookup, ask_system, is_own_address, is_system_name
from propylon.names.nameserver import NameServers
from propylon.names.resolve import LookupResult, Source, SrvTarget
from tests.upstream.peer import run


class Servers:
    """Name servers that know everything, nothing, or cannot say."""

    def __init__(self, *addresses: str, fails: bool = False) -> None:
        self.values = addresses
        self.fails = fails
        self.asked: list[str] = []

    async def addresses(self, name: str) -> LookupResult[str]:
        """What they know."""
        self.asked.append(name)
        if self.fails:
            raise ConnectFailed("no", reason="servfail")
        return LookupResult(self.values, 7.0)

    async def targets(self, name: str) -> LookupResult[SrvTarget]:
        """What they know."""
        self.asked.append(name)
        if self.fails:
            raise ConnectFailed("no", reason="servfail")
        return LookupResult((SrvTarget("a.example", 80),), 7.0)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the system is asked, and answers with one address."""
    asked: list[str] = []

    async def ask(host: str) -> LookupResult[str]:
        asked.append(host)
        return LookupResult(("192.0.2.9",), 10.0)

    monkeypatch.setattr(lookup, "ask_system", ask)
    return asked


def look_up(name: str, servers: Source | None, hosts: Path) -> LookupResult[str]:
    """One question."""
    return run(Lookup(lambda: servers, hosts).addresses(name))


@pytest.mark.parametrize("name", ["localhost", "a.localhost"])
def test_this_host_is_known(name: str, system: list[str], tmp_path: Path) -> None:
    """No query is made, not even in a thread: all of them may be taken up by names that hang."""
    servers = Servers("10.0.0.1")
    assert look_up(name, servers, tmp_path / "none").values == ("127.0.0.1", "::1")
    assert (servers.asked, system) == ([], [])
    hosts = tmp_path / "hosts"
    hosts.write_text(f"::1 {name}\n127.0.0.5 {name}\n")
    assert look_up(name, servers, hosts).values == ("127.0.0.5", "::1")


@pytest.mark.parametrize("name", ["orders", "printer.local"])
def test_names_that_are_the_systems(name: str, system: list[str], tmp_path: Path) -> None:
    """One label and multicast DNS are never asked for over the wire by ourselves."""
    servers = Servers("10.0.0.1")
    assert look_up(name, servers, tmp_path / "none") == LookupResult(("192.0.2.9",), 10.0)
    assert (servers.asked, system) == ([], [name])
    assert is_system_name(name)


def test_names_of_the_servers(system: list[str], tmp_path: Path) -> None:
    """They are asked first, and say how long the answer holds."""
    servers = Servers("10.0.0.1")
    found = look_up("orders.example", servers, tmp_path / "none")
    assert (found, system) == (LookupResult(("10.0.0.1",), 7.0), [])
    assert not is_system_name("orders.example")


@pytest.mark.parametrize("servers", [Servers(), Servers(fails=True), None])
def test_what_the_servers_do_not_know(
    servers: Source | None, system: list[str], tmp_path: Path
) -> None:
    """The system may, by ways of its own."""
    found = look_up("orders.example", servers, tmp_path / "none")
    assert (found, system) == (LookupResult(("192.0.2.9",), 10.0), ["orders.example"])


def test_the_hosts_file_comes_first(system: list[str], tmp_path: Path) -> None:
    """A name that stands in it is not asked for anywhere, whatever its case; comments are none."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.1.1.1\tOrders.Example orders # other.example\n\n#\n")
    servers = Servers("10.0.0.1")
    for name in ("orders.example", "orders"):
        assert look_up(name, servers, hosts) == LookupResult(("10.1.1.1",), lookup._SYSTEM_TTL)
    assert look_up("other.example", servers, hosts).values == ("10.0.0.1",)
    assert (servers.asked, system) == (["other.example"], [])


def test_a_hosts_file_that_is_for_the_system_to_read(system: list[str], tmp_path: Path) -> None:
    """A line whose address has another spelling is left for the system to read."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.1 orders\n")
    assert look_up("orders", None, hosts).values == ("192.0.2.9",)
    assert system == ["orders"]


class Directory:
    """A system that knows what the name servers do not, or does not; and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, servers: Servers) -> None:
        monkeypatch.setattr(lookup, "ask_system", self.ask)
        self.values: tuple[str, ...] = ()
        self.failing: Exception | None = None
        self.asked = 0
        self.now = 100.0
        self.lookup = Lookup(lambda: servers, tmp_path / "none", lambda: self.now)

    async def ask(self, host: str) -> LookupResult[str]:
        """Answer."""
        self.asked += 1
        if self.failing is not None:
            raise self.failing
        return LookupResult(self.values, 10.0)

    async def addresses(self) -> tuple[str, ...] | None:
        """The addresses, or None if no source answered."""
        try:
            return (await self.lookup.addresses("orders.example")).values
        except ConnectFailed:
            return None


@pytest.mark.parametrize("fails", [False, True])
def test_a_system_that_knows_no_more_is_left_in_peace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, fails: bool
) -> None:
    """It asks the same name servers, and takes long: not again and again, but now and then."""

    async def main() -> None:
        system = Directory(monkeypatch, tmp_path, Servers(fails=fails))
        system.failing = ConnectFailed("no") if fails else None
        expected = None if fails else ()
        for _ in range(3):
            assert await system.addresses() == expected
        assert system.asked == 1
        system.now += lookup._FALLBACK_PAUSE
        system.failing, system.values = None, ("10.0.0.7",)
        assert await system.addresses() == ("10.0.0.7",)
        assert system.asked == 2

    run(main())


def test_a_system_that_knew_more_is_asked_every_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While it cannot say, a name of its directory is not believed to be gone."""

    async def main() -> None:
        system = Directory(monkeypatch, tmp_path, Servers())
        system.values = ("10.0.0.7",)
        assert await system.addresses() == ("10.0.0.7",)
        for _ in range(2):
            system.failing = ConnectFailed("no")
            assert await system.addresses() is None
            system.failing = None
            assert await system.addresses() == ("10.0.0.7",)
        assert system.asked == 5

    run(main())


def test_the_system_is_not_waited_for_after_the_name_servers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A directory would answer at once."""
    monkeypatch.setattr(lookup, "_FALLBACK_TIMEOUT", 0.02)

    async def hang(host: str) -> LookupResult[str]:
        await asyncio.sleep(60)
        return LookupResult((), 0.0)

    monkeypatch.setattr(lookup, "ask_system", hang)
    assert look_up("orders.example", Servers(), tmp_path / "none").values == ()
    with pytest.raises(ConnectFailed) as failed:
        look_up("orders.example", Servers(fails=True), tmp_path / "none")
    assert failed.value.reason == "servfail"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The oldest name that the system did not know is forgotten for a new one."""
    monkeypatch.setattr(lookup, "_MAX_NAMES", 2)

    async def main() -> None:
        system = Directory(monkeypatch, tmp_path, Servers())
        for number in range(4):
            await system.lookup.addresses(f"{number}.example")
        assert list(system.lookup._fallback_at) == ["2.example", "3.example"]

    run(main())


def test_servers_that_failed_are_opened_anew(system: list[str], tmp_path: Path) -> None:
    """resolv.conf may have changed; while they answer, it is not read again."""
    opened: list[Servers] = []

    def open_servers() -> Source:
        opened.append(Servers("10.0.0.1", fails=not opened))
        return opened[-1]

    async def main() -> None:
        source = Lookup(open_servers, tmp_path / "none")
        for _ in range(3):
            await source.addresses("orders.example")

    run(main())
    assert [len(servers.asked) for servers in opened] == [1, 2]


def test_servers_that_know_no_service_are_opened_anew(tmp_path: Path) -> None:
    """As those that fail for an address."""
    opened: list[Servers] = []

    def open_servers() -> Source:
        opened.append(Servers(fails=not opened))
        return opened[-1]

    async def main() -> None:
        source = Lookup(open_servers, tmp_path / "none")
        with pytest.raises(ConnectFailed):
            await source.targets("_http._tcp.a.example")
        await source.targets("_http._tcp.a.example")

    run(main())
    assert len(opened) == 2


def test_the_servers_of_this_host(
    system: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are found when there is a name to ask about."""
    servers = Servers("10.0.0.1")
    monkeypatch.setattr(NameServers, "of_system", lambda: servers)

    async def main() -> None:
        found = await Lookup(hosts=tmp_path / "none").addresses("orders.example")
        assert found.values == ("10.0.0.1",)

    run(main())


def test_services_need_a_server(tmp_path: Path) -> None:
    """The system knows no SRV records."""

    async def main() -> None:
        source = Lookup(Servers, tmp_path / "none")
        assert (await source.targets("_http._tcp.a.example")).values == (
            SrvTarget("a.example", 80),
        )
        with pytest.raises(ConnectFailed, match="does not resolve"):
            await Lookup(lambda: None, tmp_path / "none").targets("_http._tcp.a.example")

    run(main())


def unknown_names() -> tuple[str, ...]:
    """A name that no name server knows; none where no name server is reached, which then cannot say so."""
    name = "no-such-host.invalid"
    with pytest.raises(socket.gaierror) as failed:
        socket.getaddrinfo(name, 80)
    return () if failed.value.errno == socket.EAI_AGAIN else (name,)


def test_the_system_itself() -> None:
    """Its addresses, each once; no TTL of its own; a name without any is an answer."""

    async def main() -> None:
        found = await ask_system("localhost")
        assert "127.0.0.1" in found.values
        assert len(set(found.values)) == len(found.values)
        assert found.ttl == lookup._SYSTEM_TTL
        for name in (*unknown_names(), "a" * 70 + ".test", "a..test"):
            assert (await ask_system(name)).values == ()
            with pytest.raises(ConnectFailed) as failed:
                await SYSTEM.addresses(name)
            assert name in failed.value.reason
        assert "127.0.0.1" in await SYSTEM.addresses("localhost")
        SYSTEM.mark_stale("localhost")

    run(main())


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure"),
        OSError("Temporary failure"),
        TimeoutError("Temporary failure"),
    ],
)
def test_a_system_that_cannot_say(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is not known whether the name exists; the reason names it and the resolver that failed."""

    async def fail(_: System, host: str) -> Infos:
        raise error

    async def main() -> None:
        with pytest.raises(ConnectFailed, match="does not resolve") as failed:
            await ask_system("orders.example")
        assert failed.value.reason == f"name lookup of orders.example: {error}"
        assert "orders" not in failed.value.message

    monkeypatch.setattr(System, "ask", fail)
    run(main())


def test_link_local_addresses_keep_their_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """They mean nothing without it."""

    async def infos(_: System, host: str) -> Infos:
        addresses = [("fe80::1", 0, 0, 2), ("fe80::2%eth0", 0, 0, 3), ("fd00::1", 0, 0, 0)]
        return [(socket.AF_INET6, 1, 6, "", address) for address in addresses]

    monkeypatch.setattr(System, "ask", infos)
    assert run(ask_system("a")).values == ("fe80::1%2", "fe80::2%eth0", "fd00::1")


def test_own_addresses() -> None:
    """Those that can be bound; nothing else, and nothing that is no address."""
    assert is_own_address("127.0.0.1")
    assert is_own_address("::ffff:127.0.0.1")
    assert not is_own_address("192.0.2.1")
    assert not is_own_address("2001:db8::1")
    assert not is_own_address("localhost")
