"""Name servers: a real one on UDP, and what is made of its answers."""

from pathlib import Path

import dns.resolver
import pytest

from propylon.errors import ConnectFailed
from propylon.names.nameserver import NameServers
from propylon.names.resolve import LookupResult, SrvTarget
from tests.names.responder import Responder
from tests.upstream.peer import run

NAME = "orders.example"


def test_addresses_of_both_families() -> None:
    """IPv4 first, with the TTL of the answer."""

    async def main() -> None:
        records = {(NAME, "A"): ["10.0.0.2", "10.0.0.1"], (NAME, "AAAA"): ["fd00::1"]}
        async with Responder(records, ttl=7) as responder:
            found = await responder.servers().addresses(NAME)
            assert (set(found.values[:2]), found.values[2]) == ({"10.0.0.1", "10.0.0.2"}, "fd00::1")
            assert found.ttl == 7

    run(main())


def test_one_family_is_enough() -> None:
    """A name with no address of the other kind is no failure."""

    async def main() -> None:
        async with Responder({(NAME, "AAAA"): ["fd00::1"]}, ttl=5) as responder:
            assert await responder.servers().addresses(NAME) == LookupResult(("fd00::1",), 5)
            responder.records = {(NAME, "A"): ["10.0.0.1"]}
            assert await responder.servers().addresses(NAME) == LookupResult(("10.0.0.1",), 5)

    run(main())


def test_one_family_that_nobody_answers_for() -> None:
    """The addresses of the other family are returned; if there are none, it is a failure and not "no such name"."""

    async def main() -> None:
        async with Responder({(NAME, "A"): ["10.0.0.1"]}, failing="AAAA") as responder:
            servers = responder.servers(lifetime=0.3)
            assert (await servers.addresses(NAME)).values == ("10.0.0.1",)
            responder.failing = "A"
            with pytest.raises(ConnectFailed):
                await servers.addresses(NAME)

    run(main())


def test_an_alias_holds_as_long_as_its_shortest_part() -> None:
    """The TTL is the smallest of the chain's."""

    async def main() -> None:
        records = {("www.example", "CNAME"): [NAME + "."], (NAME, "A"): ["10.0.0.1"]}
        async with Responder(records, ttl=9) as responder:
            found = await responder.servers().addresses("www.example")
            assert found == LookupResult(("10.0.0.1",), 9)

    run(main())


@pytest.mark.parametrize("exists", [False, True])
def test_how_long_there_is_nothing(*, exists: bool) -> None:
    """As long as the zone's SOA says, whether the name has other records or none."""

    async def main() -> None:
        soa = "ns.example. admin.example. 1 2 3 4 3"
        records = {("example", "SOA"): [soa], ("other.example", "A"): ["10.0.0.1"]}
        if exists:
            records[NAME, "TXT"] = ['"x"']
        async with Responder(records, ttl=9) as responder:
            assert await responder.servers().addresses(NAME) == LookupResult((), 3)
            assert await responder.servers().targets("_http._tcp." + NAME) == LookupResult((), 3)

    run(main())


def test_no_such_name() -> None:
    """An answer that there is nothing is an answer."""

    async def main() -> None:
        async with Responder({("other.example", "A"): ["10.0.0.1"]}) as responder:
            servers = responder.servers()
            assert (await servers.addresses(NAME)).values == ()
            assert (await servers.targets(NAME)).values == ()
            responder.records = {(NAME, "TXT"): ['"x"']}
            assert (await servers.addresses(NAME)).values == ()

    run(main())


@pytest.mark.parametrize("failing", ["servfail", "refused", "silent", "garbage"])
def test_a_server_that_cannot_say(failing: str) -> None:
    """ConnectFailed with the reason, in time."""

    async def main() -> None:
        async with Responder({(NAME, "A"): ["10.0.0.1"]}, failing=failing) as responder:
            servers = responder.servers(lifetime=0.1)
            with pytest.raises(ConnectFailed) as failed:
                await servers.addresses(NAME)
            assert failed.value.reason.startswith(f"name lookup of {NAME}: ")
            with pytest.raises(ConnectFailed):
                await servers.targets(NAME)

    run(main())


@pytest.mark.parametrize("name", ["a" * 70 + ".test", "a..test", "." + "a." * 130])
def test_a_name_that_cannot_be(name: str) -> None:
    """ConnectFailed, too: nothing of the library's own comes out."""

    async def main() -> None:
        async with Responder() as responder:
            with pytest.raises(ConnectFailed):
                await responder.servers().addresses(name)

    run(main())


def test_targets() -> None:
    """The best priority only, in the order of their names, weights in their proportions."""

    async def main() -> None:
        service = "_http._tcp.orders.example"
        records = {
            (service, "SRV"): [
                "10 60 8001 B.example.",
                "10 20 8000 a.example.",
                "20 100 8002 spare.example.",
            ]
        }
        async with Responder(records, ttl=4) as responder:
            found = await responder.servers().targets(service)
            expected = (SrvTarget("a.example", 8000, 1), SrvTarget("b.example", 8001, 3))
            assert found == LookupResult(expected, 4)
            responder.records = {(service, "SRV"): ["0 0 80 a.example.", "0 0 81 a.example."]}
            found = await responder.servers().targets(service)
            assert found.values == (SrvTarget("a.example", 80), SrvTarget("a.example", 81))
            # RFC 2782: not available; and nothing listens on port 0, whatever its priority.
            responder.records = {(service, "SRV"): ["0 0 0 ."]}
            assert (await responder.servers().targets(service)).values == ()
            responder.records = {(service, "SRV"): ["0 0 80 ."]}
            assert (await responder.servers().targets(service)).values == ()
            responder.records = {
                (service, "SRV"): ["0 9 0 a.example.", "1 1 0 b.example.", "1 1 80 c.example."]
            }
            found = await responder.servers().targets(service)
            assert found.values == (SrvTarget("c.example", 80),)

    run(main())


def test_the_search_list_applies() -> None:
    """A name is completed as the system's resolver would."""

    async def main() -> None:
        async with Responder({("orders.shop.svc.cluster.test", "A"): ["10.0.0.1"]}) as responder:
            servers = responder.servers()
            servers._resolver.search = [dns.name.from_text("svc.cluster.test")]
            servers._resolver.ndots = 5
            assert (await servers.addresses("orders.shop")).values == ("10.0.0.1",)
            assert ("orders.shop", "A") not in responder.asked

    run(main())


def test_servers_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of resolv.conf; none where it lists none, or is not there."""
    read = dns.resolver.BaseResolver.read_resolv_conf
    conf = tmp_path / "resolv.conf"

    def read_ours(self: dns.resolver.BaseResolver, file: str) -> None:
        read(self, str(conf))

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", read_ours)
    assert NameServers.of_system() is None
    conf.write_text("# none\n")
    assert NameServers.of_system() is None
    conf.write_text("nameserver 192.0.2.53\n")
    found = NameServers.of_system()
    assert found is not None
    assert found._resolver.nameservers == ["192.0.2.53"]
