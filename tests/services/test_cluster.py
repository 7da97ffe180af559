"""Following a cluster: what its API says comes, changes and goes; what it does wrong changes nothing."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.names.resolve import SrvTarget
from propylon.services import cluster as module
from propylon.services.cluster import Cluster as Followed
from propylon.services.cluster import ClusterService
from propylon.upstream import kubernetes
from propylon.upstream.kubernetes import ApiSettings
from propylon.upstream.pools import Pools
from tests.support.certificates import Authority
from tests.support.cluster import Cluster, a_slice, endpoints
from tests.upstream.peer import run, until

HTTP = ("http", 8000)
ORDERS = ClusterService("shop", "orders", "http")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses."""
    monkeypatch.setattr(module, "_LEAST", 0.0)
    monkeypatch.setattr(module, "_BACKOFF", 0.001)


@dataclass
class Told:
    """What was told of a service, one after the other."""

    all: list[list[str]] = field(default_factory=list)

    def __call__(self, found: tuple[SrvTarget, ...]) -> None:
        """Note it."""
        self.all.append([f"{one.host}:{one.port}" for one in found])

    async def becomes(self, *addresses: str) -> None:
        """Wait until these are the last."""
        await until(lambda: self.all and self.all[-1] == list(addresses))


@asynccontextmanager
async def following(api: Cluster, **settings: str) -> AsyncIterator[Followed]:
    """Follow this API for as long as the block lasts."""
    loop = asyncio.get_running_loop()
    pools = Pools(loop, Ticker(loop, 0.025), Outbox(loop))
    followed = Followed(lambda address: pools.fresh(address, 2), lambda: 0.5)
    followed.apply(ApiSettings("127.0.0.1", api.port, api.url.startswith("https"), **settings))
    try:
        yield followed
    finally:
        followed.close()
        pools.close()
        await asyncio.sleep(0.01)


def test_pods_come_change_and_go() -> None:
    """A list, and from there on what changes; also when the API has ended the watch, which is no failure."""

    async def main() -> None:
        with Cluster() as api:
            api.put(a_slice("a", "orders", endpoints("10.0.0.1"), HTTP))
            api.put(a_slice("x", "others", endpoints("10.0.9.9"), HTTP))
            async with following(api) as followed:
                told = Told()
                assert followed.up is None
                following_ = followed.follow(ORDERS, told)
                assert followed.missing
                await told.becomes("10.0.0.1:8000")
                assert followed.missing is None
                api.put(a_slice("b", "orders", endpoints("10.0.0.2"), HTTP))
                await told.becomes("10.0.0.1:8000", "10.0.0.2:8000")
                api.put(a_slice("a", "orders", endpoints("10.0.0.1", ready=False), HTTP))
                await told.becomes("10.0.0.2:8000")
                await until(lambda: followed.up)
                api.cut(well=True)
                api.delete("b")
                await told.becomes()
                assert api.lists == 1
                assert followed.known(ORDERS) == ()
                following_.cancel()
                await until(lambda: not api.watches)
                assert followed.up is None

    run(main())


def test_one_connection_for_a_namespace() -> None:
    """Several services have one watch; another namespace has one of its own."""

    async def main() -> None:
        with Cluster() as api:
            for name in ("orders", "users", "hidden"):
                api.put(a_slice(name, name, endpoints("10.0.0.1"), HTTP))
            api.put(a_slice("orders", "orders", endpoints("10.1.1.1"), HTTP), "other")
            async with following(api) as followed:
                services = [
                    ORDERS,
                    ClusterService("shop", "users", ""),
                    ClusterService("other", "orders", ""),
                ]
                heard = [Told() for _ in services]
                for service, told in zip(services, heard, strict=True):
                    followed.follow(service, told)
                await heard[0].becomes("10.0.0.1:8000")
                await heard[1].becomes("10.0.0.1:8000")
                await heard[2].becomes("10.1.1.1:8000")
                await until(lambda: api.watches == 2)
                # One more of the namespace: all that are followed there are listed again, and what is known stays.
                late = Told()
                followed.follow(ClusterService("shop", "hidden", "8000"), late)
                assert followed.known(ORDERS)
                await late.becomes("10.0.0.1:8000")
                await until(lambda: api.watches == 2)
                assert [len(told.all) for told in heard] == [1, 1, 1]

    run(main())


def test_a_long_list_comes_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are one list."""
    monkeypatch.setattr(kubernetes, "_PAGE", 2)

    async def main() -> None:
        with Cluster() as api:
            for at in range(5):
                api.put(a_slice(f"s{at}", "orders", endpoints(f"10.0.0.{at + 1}"), HTTP))
            async with following(api) as followed:
                told = Told()
                followed.follow(ORDERS, told)
                await told.becomes(*(f"10.0.0.{at + 1}:8000" for at in range(5)))
                assert api.lists == 3

    run(main())


def broken(api: Cluster) -> None:
    """The connection breaks, and nobody listens for a while."""
    api.statuses += [503, 500, 429]
    api.cut()


def forgotten(api: Cluster) -> None:
    """The version is too old, as an event says."""
    api.forget()
    api.cut(well=True)


def gone(api: Cluster) -> None:
    """The same, as a status says it."""
    api.statuses += [410]
    api.cut(well=True)


def garbage(api: Cluster) -> None:
    """What comes is no JSON, and then no event."""
    api.garbage += [b"{\n", b"[]\n", b'{"type": "ERROR", "object": {"code": 500}}\n']
    api.cut(well=True)


def endless(api: Cluster) -> None:
    """A line that has no end."""
    api.garbage += [b"x" * 3000]
    api.cut(well=True)


@pytest.mark.parametrize("fault", [broken, forgotten, gone, garbage, endless])
def test_what_goes_wrong_ends_with_the_truth(
    fault: Callable[[Cluster], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known stays meanwhile; what was missed is there afterwards."""
    monkeypatch.setattr(kubernetes, "_LARGEST_EVENT", 2000)

    async def main() -> None:
        with Cluster() as api:
            api.put(a_slice("a", "orders", endpoints("10.0.0.1"), HTTP))
            async with following(api) as followed:
                told = Told()
                followed.follow(ORDERS, told)
                await told.becomes("10.0.0.1:8000")
                await until(lambda: api.watches)
                api.bookmark()
                fault(api)
                api.put(a_slice("b", "orders", endpoints("10.0.0.2"), HTTP))
                api.delete("a")
                await told.becomes("10.0.0.2:8000")
                assert [] not in told.all
                await until(lambda: followed.up)

    run(main())


def test_an_api_that_is_away_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """And once when it is back; a start does not wait for it."""

    async def main() -> None:
        with Cluster() as api:
            api.put(a_slice("a", "orders", endpoints("10.0.0.1"), HTTP))
            api.statuses += [403] * 5
            async with following(api) as followed:
                told = Told()
                followed.follow(ORDERS, told)
                await until(lambda: followed.missing is None)
                await told.becomes("10.0.0.1:8000")
                await until(lambda: followed.up)

    with caplog.at_level(logging.WARNING):
        run(main())
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(": ")[2].partition(",")[0] for text in said] == [
        "the namespace shop is not watched",
        "the namespace shop is watched again",
    ]
    assert "needs a Role with `list` and `watch`" in said[0]


def test_a_port_that_is_not_clear_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The service has no instances until it is."""

    async def main() -> None:
        with Cluster() as api:
            api.put(a_slice("a", "orders", endpoints("10.0.0.1"), ("web", 80), ("admin", 81)))
            async with following(api) as followed:
                told = Told()
                followed.follow(ORDERS, told)
                await told.becomes()
                assert followed.known(ORDERS) == ()
                api.put(a_slice("b", "orders", endpoints("10.0.0.2"), ("web", 80), ("admin", 81)))
                api.put(a_slice("a", "orders", endpoints("10.0.0.1"), HTTP))
                api.delete("b")
                await told.becomes("10.0.0.1:8000")

    run(main())
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "kubernetes: orders.shop has no instances here: it has not one port http; it has web (80), admin (81)"
    ]


def test_token_and_authority_are_read_again(tmp_path: Path) -> None:
    """The token for each request, over TLS; a wrong authority is trusted with nothing."""
    authority, other = Authority(tmp_path, "one"), Authority(tmp_path, "two")
    pair = authority.sign("api", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first\n")
    ca.write_bytes(other.file.read_bytes())

    async def main() -> None:
        with Cluster(context) as api:
            api.token = "first"
            api.put(a_slice("a", "orders", endpoints("10.0.0.1"), HTTP))
            async with following(api, token_file=str(token), ca_file=str(ca)) as followed:
                told = Told()
                followed.follow(ORDERS, told)
                await until(lambda: followed.missing is None)
                assert api.asked == []
                ca.write_bytes(authority.file.read_bytes())
                await told.becomes("10.0.0.1:8000")
                api.token = "second"
                token.write_text("second")
                api.cut(well=True)
                api.put(a_slice("a", "orders", endpoints("10.0.0.2"), HTTP))
                await told.becomes("10.0.0.2:8000")

    run(main())


def test_no_token_goes_in_the_clear(tmp_path: Path) -> None:
    """And a file that is not there is a failure like others."""
    token = tmp_path / "token"

    async def main() -> None:
        with Cluster() as api:
            api.put(a_slice("a", "orders", endpoints("10.0.0.1"), HTTP))
            async with following(api, token_file=str(token)) as followed:
                told = Told()
                followed.follow(ORDERS, told)
                await until(lambda: followed.missing is None)
                token.write_text("secret")
                await told.becomes("10.0.0.1:8000")
                assert all("authorization" not in headers for _, headers in api.asked)

    run(main())


def test_another_api_is_asked_after_a_reload() -> None:
    """What the old one said stays until the new one has answered."""

    async def main() -> None:
        with Cluster() as api, Cluster() as other:
            api.put(a_slice("a", "orders", endpoints("10.0.0.1"), HTTP))
            other.put(a_slice("a", "orders", endpoints("10.0.0.2"), HTTP))
            async with following(api) as followed:
                told = Told()
                followed.follow(ORDERS, told)
                await told.becomes("10.0.0.1:8000")
                followed.apply(ApiSettings("127.0.0.1", other.port, secure=False))
                assert followed.known(ORDERS)
                await told.becomes("10.0.0.2:8000")
                await until(lambda: not api.watches)

    run(main())
