"""How many connections clients may have, counted."""

import pytest

from propylon.edge.crowd import Crowd
from propylon.edge.trust import Trust
from propylon.errors import TooManyConnections
from propylon.proxy.exchange import Origin


def origin(peer: str, *, trusted: bool = False) -> Origin:
    """A client with that address."""
    return Origin(client=peer, peer=peer, scheme="http", forwarded=b"", trusted=trusted)


def enter(crowd: Crowd, *peers: str) -> list[TooManyConnections | None]:
    """Connect from these addresses, one after the other."""
    return [crowd.enter(origin(peer)) for peer in peers]


def test_no_limit() -> None:
    """Without limits every connection is admitted, and is forgotten when it ends."""
    crowd = Crowd()
    assert enter(crowd, *["10.0.0.1"] * 100) == [None] * 100
    for _ in range(100):
        crowd.leave(origin("10.0.0.1"), None)
    assert (crowd.open, len(crowd._by_client)) == (0, 0)


def test_all_of_them() -> None:
    """The connection beyond the limit is refused, and one that ends makes room."""
    crowd = Crowd(2)
    first, second, third = enter(crowd, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    assert (first, second) == (None, None)
    assert third is not None
    assert (third.status, third.reason, third.closes) == (503, "server.max_connections", True)
    crowd.leave(origin("10.0.0.3"), third)
    assert crowd.enter(origin("10.0.0.3")) is not None
    crowd.leave(origin("10.0.0.1"), None)
    assert crowd.enter(origin("10.0.0.3")) is None


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"),
        ("::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2"),
    ],
)
def test_each_client(one: str, same: str, other: str) -> None:
    """A client is an IPv4 address, or a /64 of IPv6; others are not its concern."""
    crowd = Crowd(None, 1)
    admitted, refused, free = enter(crowd, one, same, other)
    assert (admitted, free) == (None, None)
    assert refused is not None
    assert refused.reason == "server.max_connections_per_client"
    crowd.leave(origin(one), None)
    assert crowd.enter(origin(same)) is None


def test_proxies_and_unix_sockets_are_no_single_client() -> None:
    """A trusted proxy brings many clients, and a Unix socket has no address: only the total counts."""
    crowd = Crowd(4, 1)
    proxy = Trust([]).origin("10.0.0.9", "http")
    assert not proxy.trusted
    many = [origin("10.0.0.9", trusted=True)] * 2 + [origin("")] * 2
    assert [crowd.enter(one) for one in many] == [None] * 4
    assert crowd.enter(origin("")) is not None


def test_those_that_are_turned_away_are_bounded() -> None:
    """Beyond 256 at a time the next one gets no answer."""
    crowd = Crowd(1)
    found = enter(crowd, *["10.0.0.1"] * 257)
    assert not crowd.is_overrun
    assert crowd.enter(origin("10.0.0.1")) is not None
    assert crowd.is_overrun
    crowd.leave(origin("10.0.0.1"), found[1])
    assert not crowd.is_overrun
    assert crowd.open == 1


def test_a_limit_may_come_later() -> None:
    """What is connected when a reload sets a limit counts towards it."""
    crowd = Crowd()
    enter(crowd, "10.0.0.1", "10.0.0.1")
    crowd.most_per_client = 2
    assert crowd.enter(origin("10.0.0.1")) is not None
