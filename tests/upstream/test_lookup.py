"""Where a name is looked up: the hosts file, the name servers, the system."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from propylon.errors import ConnectFailed
from propylon.upstream import lookup
from propylon.upstream.lookup import SYSTEM, Lookup, ask_system, is_own_address, is_system_name
from propylon.upstream.nameserver import NameServers
from propylon.upstream.resolve import Found, Source, Target
from tests.upstream.peer import run


class Servers:
    """Name servers that know everything, nothing, or cannot say."""

    def __init__(self, *addresses: str, fails: bool = False) -> None:
        self.values = addresses
        self.fails = fails
        self.asked: list[str] = []

    async def addresses(self, name: str) -> Found[str]:
        """What they know."""
        self.asked.append(name)
        if self.fails:
            raise ConnectFailed("no", reason="servfail")
        return Found(self.values, 7.0)

    async def targets(self, name: str) -> Found[Target]:
        """What they know."""
        self.asked.append(name)
        return Found((Target("a.example", 80),), 7.0)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the system is asked, and answers with one address."""
    asked: list[str] = []

    async def ask(host: str) -> Found[str]:
        asked.append(host)
        return Found(("192.0.2.9",), 10.0)

    monkeypatch.setattr(lookup, "ask_system", ask)
    return asked


def look_up(name: str, servers: Source | None, hosts: Path) -> Found[str]:
    """One question."""
    return run(Lookup(lambda: servers, hosts).addresses(name))


@pytest.mark.parametrize("name", ["orders", "localhost", "printer.local", "a.localhost"])
def test_names_that_are_the_systems(name: str, system: list[str], tmp_path: Path) -> None:
    """One label, multicast DNS and this host are never asked for over the wire."""
    servers = Servers("10.0.0.1")
    assert look_up(name, servers, tmp_path / "none") == Found(("192.0.2.9",), 10.0)
    assert (servers.asked, system) == ([], [name])
    assert is_system_name(name)


def test_names_of_the_servers(system: list[str], tmp_path: Path) -> None:
    """They are asked first, and say how long the answer holds."""
    servers = Servers("10.0.0.1")
    found = look_up("orders.example", servers, tmp_path / "none")
    assert (found, system) == (Found(("10.0.0.1",), 7.0), [])
    assert not is_system_name("orders.example")


@pytest.mark.parametrize("servers", [Servers(), Servers(fails=True), None])
def test_what_the_servers_do_not_know(
    servers: Source | None, system: list[str], tmp_path: Path
) -> None:
    """The system may, by ways of its own."""
    found = look_up("orders.example", servers, tmp_path / "none")
    assert (found, system) == (Found(("192.0.2.9",), 10.0), ["orders.example"])


def test_the_hosts_file_comes_first(system: list[str], tmp_path: Path) -> None:
    """A name that stands in it is not asked for anywhere else, whatever its case; comments are none."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.1.1.1\tOrders.Example orders # other.example\n\n#\n")
    servers = Servers("10.0.0.1")
    assert look_up("orders.example", servers, hosts).values == ("192.0.2.9",)
    assert look_up("other.example", servers, hosts).values == ("10.0.0.1",)
    assert (servers.asked, system) == (["other.example"], ["orders.example"])


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
        assert (await source.targets("_http._tcp.a.example")).values == (Target("a.example", 80),)
        with pytest.raises(ConnectFailed, match="does not resolve"):
            await Lookup(lambda: None, tmp_path / "none").targets("_http._tcp.a.example")

    run(main())


def test_the_system_itself() -> None:
    """Its addresses, each once; no TTL of its own; a name without any is an answer."""

    async def main() -> None:
        found = await ask_system("localhost")
        assert "127.0.0.1" in found.values
        assert len(set(found.values)) == len(found.values)
        assert found.ttl == lookup._SYSTEM_TTL
        for name in ("no-such-host.invalid", "a" * 70 + ".test", "a..test"):
            assert (await ask_system(name)).values == ()
            with pytest.raises(ConnectFailed) as failed:
                await SYSTEM.addresses(name)
            assert name in failed.value.reason
        assert "127.0.0.1" in await SYSTEM.addresses("localhost")
        SYSTEM.doubt("localhost")

    run(main())


def test_a_system_that_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nobody knows whether the name is there."""

    async def main() -> None:
        async def fail(*_: Any, **__: Any) -> None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
        with pytest.raises(ConnectFailed, match="does not resolve") as failed:
            await ask_system("orders.example")
        assert "Temporary failure" in failed.value.reason

    asyncio.run(main())


def test_link_local_addresses_keep_their_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """They mean nothing without it."""

    async def main() -> None:
        async def infos(*_: Any, **__: Any) -> list[Any]:
            addresses = [("fe80::1", 0, 0, 2), ("fe80::2%eth0", 0, 0, 3), ("fd00::1", 0, 0, 0)]
            return [(socket.AF_INET6, 1, 6, "", address) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", infos)
        assert (await ask_system("a")).values == ("fe80::1%2", "fe80::2%eth0", "fd00::1")

    asyncio.run(main())


def test_own_addresses() -> None:
    """Those that can be bound; nothing else, and nothing that is no address."""
    assert is_own_address("127.0.0.1")
    assert is_own_address("::ffff:127.0.0.1")
    assert not is_own_address("192.0.2.1")
    assert not is_own_address("2001:db8::1")
    assert not is_own_address("localhost")
