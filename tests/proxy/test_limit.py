"""Whom a limit counts a request for, and what a client is told that has nothing left."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import RateLimited
from propylon.names.addresses import subnet
from propylon.proxy.limit import Limit, by_caller, by_client, by_route
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.headers import values
from tests.proxy.doubles import request, run
from tests.stores.test_buckets import buckets

# The stage


def limited(limit: Limit, client: str = "192.0.2.1", principal: Principal = ANONYMOUS) -> int:
    """0, or how long a client is told to wait."""
    try:
        run(limit(request(), principal, client))
    except RateLimited as error:
        [told] = values(b"".join(b"\r\n%b: %b" % pair for pair in error.headers), b"retry-after")
        assert error.details["retry_after"] == int(told)
        assert (error.status, error.code, error.closes) == (429, "RATE_LIMIT", False)
        return int(told)
    return 0


@pytest.mark.parametrize(
    ("rate", "told"), [(10 / 60, 6), (10.0, 1), (1000.0, 1), (1 / 3600, 3600), (0.7, 2), (1.0, 1)]
)
def test_retry_after(rate: float, told: int) -> None:
    """Whole seconds, rounded up: whoever comes then is let in."""
    some, clock = buckets(rate, 1)
    limit = Limit(some, by_client)
    assert limited(limit) == 0
    assert limited(limit) == told
    clock.now += told
    assert limited(limit) == 0


def test_whom_it_is_counted_for() -> None:
    """By address each has its own; by route all share one."""
    for key_of, expected in ((by_client, [0, 0, 0]), (by_route, [0, 60, 60])):
        limit = Limit(buckets(1 / 60, 1)[0], key_of)
        clients = ("192.0.2.1", "192.0.2.2", "2001:db8::1")
        assert [limited(limit, client) for client in clients] == expected


def test_a_token_buys_no_bucket_of_its_own() -> None:
    """Who is counted by address cannot get around it with another name."""
    limit = Limit(buckets(1 / 60, 1)[0], by_client)
    assert limited(limit) == 0
    assert limited(limit, principal=Principal("alice")) == 60


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:DB8:1:2:0:0:0:1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::1", "2001:db8::1", False),
        ("", "192.0.2.1", False),
        ("testclient", "testclient", True),
        ("a:b", "a:c", False),
    ],
)
def test_who_counts_as_one(one: str, other: str, same: bool) -> None:
    """IPv6 by its /64, which is the least that a customer has; IPv4 by the address, however it is written."""
    assert (subnet(one) == subnet(other)) is same


def test_no_two_kinds_of_keys_are_alike() -> None:
    """A network is never taken for an address."""
    addresses = ["192.0.2.1", "2001:db8::1", "::1", "20010db800000000"]
    assert len(set(map(subnet, addresses))) == len(addresses)


@given(st.text(max_size=40))
def test_any_client_is_somebody(client: str) -> None:
    """Whatever a server says of a peer is a key, and no bug."""
    assert isinstance(subnet(client), str)


@pytest.mark.parametrize("key_of", [by_client, by_route])
def test_all_at_once(key_of: Callable[[object, object, str], str]) -> None:
    """A thousand in one turn of the loop: exactly the burst passes."""
    limit = Limit(buckets(1.0, 100)[0], key_of)
    assert [limited(limit) for _ in range(1000)].count(0) == 100


def test_a_caller_is_counted_by_subject_and_issuer() -> None:
    """Two issuers' subjects of one name have two buckets; requests without a token are counted by address."""
    asked = request()
    ann = Principal("ann", issuer="https://a")
    keys = {
        by_caller(asked, ann, "203.0.113.1"),
        by_caller(asked, Principal("ann", issuer="https://b"), "203.0.113.1"),
        by_caller(asked, Principal("ann"), "203.0.113.1"),
        by_caller(asked, ANONYMOUS, "203.0.113.1"),
        by_caller(asked, Principal("203.0.113.1"), "203.0.113.1"),
    }
    assert len(keys) == 5
    assert by_caller(asked, ann, "203.0.113.9") in keys
    assert by_caller(asked, ANONYMOUS, "2001:db8::1") == by_client(asked, ann, "2001:db8::2")
