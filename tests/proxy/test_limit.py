"""Whom a limit counts a request for, what it costs, and what the client is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import RateLimited
from propylon.names.addresses import subnet
from propylon.proxy.exchange import Exchange
from propylon.proxy.limit.charge import header_cost
from propylon.proxy.limit.keys import (
    KeyOf,
    by_address,
    by_caller,
    by_claim,
    by_header,
    by_name,
    joined,
)
from propylon.proxy.limit.stage import Limit, LimitStage
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.proxy.refuse import refusal
from propylon.stores.limits.memory import MemoryLimits
from propylon.wire.headers import values
from propylon.wire.message import NO_BODY, Response
from tests.proxy.doubles import request, run
from tests.proxy.limited import Tallies, exchange
from tests.stores.limit_stores import SECOND, Clock, bucket, window

ADDRESS = by_address()


class World:
    """A stage over these limits, and its clock."""

    def __init__(self, *limits: dict[str, Any], **team: Any) -> None:
        self.clock, self.tallies = Clock(), Tallies()
        made = []
        for given_ in limits:
            options = {"key_of": ADDRESS, "cost": 1, **given_}
            rule = options.pop("rule")
            made.append(
                Limit(rule, rule.name, tally=self.tallies.limit(rule.id), **options)  # type: ignore[arg-type]
            )
        self.stage = LimitStage(made, MemoryLimits(self.clock), **team)

    def ask(self, client: str = "192.0.2.1", principal: Principal = ANONYMOUS) -> Exchange:
        """Count one request; the error is in the exchange, as the pipeline would put it there."""
        asked = exchange(client)
        try:
            waiting = self.stage(asked, request(), principal)
            if waiting is not None:
                run(waiting)  # type: ignore[arg-type]
        except RateLimited as error:
            asked.error = error
        return asked


def told(asked: Exchange, name: bytes) -> str:
    """A header of the answer; empty if there is none."""
    extra = b"" if asked.error is None else refusal(asked.error, None, b"id")[0].block
    return b"|".join(values(asked.lines + extra, name)).decode()


# The stage


@pytest.mark.parametrize(
    ("rate", "seconds", "wait"),
    [(10, 60, 6), (10, 1, 1), (1000, 1, 1), (1, 3600, 3600), (7, 10, 2), (1, 1, 1)],
)
def test_retry_after(rate: int, seconds: int, wait: int) -> None:
    """Retry-After is in whole seconds, rounded up: a client that comes then passes."""
    world = World({"rule": bucket(rate, 1, seconds)})
    assert world.ask().error is None
    error = world.ask().error
    assert isinstance(error, RateLimited)
    assert (error.status, error.code, error.closes) == (429, "RATE_LIMIT", False)
    assert error.details == {"retry_after": wait, "limits": ["default"]}
    assert error.headers == ((b"Retry-After", b"%d" % wait),)
    world.clock.now += wait * SECOND
    assert world.ask().error is None


def test_headers_of_one_limit() -> None:
    """Both families of headers say what is left, whether the request passes or not."""
    world = World({"rule": bucket(10, 2, 60)})
    first, _, third = (world.ask() for _ in range(3))
    assert told(first, b"x-ratelimit-limit") == "2"
    assert told(first, b"x-ratelimit-remaining") == "1"
    assert told(first, b"x-ratelimit-reset") == "6"
    assert told(first, b"ratelimit-policy") == '"default";q=2;w=12'
    assert told(first, b"ratelimit") == '"default";r=1;t=6'
    assert told(third, b"x-ratelimit-remaining") == "0"
    assert told(third, b"ratelimit") == '"default";r=0;t=12'
    assert told(third, b"retry-after") == "6"


def test_headers_of_several_limits() -> None:
    """RateLimit lists all; the X- headers are those of the limit with the fewest units left."""
    world = World(
        {"rule": bucket(10, 3, name="per-second")}, {"rule": window(2, 86400, name="per-day")}
    )
    first = world.ask()
    assert told(first, b"ratelimit-policy") == '"per-second";q=3;w=1, "per-day";q=2;w=86400'
    assert told(first, b"ratelimit") == '"per-second";r=2;t=1, "per-day";r=1;t=86401'
    assert told(first, b"x-ratelimit-limit") == "2"
    world.clock.now += SECOND
    world.ask()
    third = world.ask()
    assert told(third, b"x-ratelimit-remaining") == "0"
    assert isinstance(third.error, RateLimited)
    assert third.error.violated == ("per-day",)
    assert told(third, b"ratelimit").startswith('"per-second";r=2;')


def test_longest_wait_is_told() -> None:
    """If several limits refuse, Retry-After is that of the one which refuses for longest."""
    world = World({"rule": bucket(1, 1, 10, name="a")}, {"rule": bucket(1, 1, 60, name="b")})
    world.ask()
    asked = world.ask()
    assert (told(asked, b"retry-after"), asked.limited) == ("60", ("route:a/a", "route:a/b"))


def test_shadow() -> None:
    """A shadow limit is counted and noted, and stands in no header."""
    world = World({"rule": bucket(1, 1, shadow=True)})
    assert world.stage.fields == ()
    assert world.ask().lines == b""
    asked = world.ask()
    assert (asked.error, asked.lines) == (None, b"")
    assert (asked.limited, asked.flags) == (("route:a/default",), ("shadow_limit",))
    assert world.tallies.rows["route:a/default"] == [1.0, 0.0, 1.0]


def test_decisions_are_counted() -> None:
    """Each limit counts how many requests it allowed and refused."""
    world = World({"rule": bucket(1, 3)})
    for _ in range(5):
        world.ask()
    assert world.tallies.rows["route:a/default"] == [3.0, 2.0, 0.0]


def test_price() -> None:
    """A limit without a cost of its own takes the route's price; another one keeps its own."""

    async def price(asked: object, principal: Principal) -> int:
        return len(principal.subject)

    world = World(
        {"rule": bucket(1, 9, name="priced"), "cost": None},
        {"rule": bucket(1, 9, name="fixed"), "cost": 1},
        price=price,
    )
    assert told(world.ask(principal=Principal("anna")), b"ratelimit") == (
        '"priced";r=5;t=4, "fixed";r=8;t=1'
    )


def test_charge_by_header() -> None:
    """What the answer says it has cost is spent when the exchange has ended, once."""
    rule = bucket(1, 100, charged=True)
    world = World({"rule": rule, "cost": 0, "charge": header_cost("X-Cost")})
    asked = world.ask()
    asked.head = Response(200, b" 200 OK", b"\r\nx-cost: 40\r\nA: b", NO_BODY, keep_alive=True)
    assert asked.owed is not None
    asked.owed.settle(asked)
    assert told(world.ask(), b"x-ratelimit-remaining") == "60"


def test_nothing_is_charged_without_an_answer() -> None:
    """A request that no upstream answered costs nothing more."""
    rule = bucket(1, 100, charged=True)
    world = World({"rule": rule, "cost": 0, "charge": header_cost("X-Cost")})
    asked = world.ask()
    assert asked.owed is not None
    asked.owed.settle(asked)
    assert told(world.ask(), b"x-ratelimit-remaining") == "100"


@pytest.mark.parametrize(
    ("block", "cost"),
    [
        (b"\r\nX-Cost: 12", 12),
        (b"\r\nx-COST:12 ", 12),
        (b"\r\nA: b\r\nX-Cost: 1\r\nX-Cost: 2", 3),
        (b"\r\nX-Cost: +5", 0),
        (b"\r\nX-Cost: 5_0", 0),
        (b"\r\nX-Cost: -5", 0),
        (b"\r\nX-Cost: 1.5", 0),
        (b"\r\nX-Cost: 12345678901", 0),
        (b"\r\nX-Costs: 5", 0),
        (b"", 0),
    ],
)
def test_cost_in_a_header(block: bytes, cost: int) -> None:
    """Only a whole number is a cost; several are added up."""
    assert header_cost("X-Cost")(block) == cost


# Keys


def keys(
    key_of: KeyOf, *lines: bytes, client: str = "192.0.2.1", principal: Principal = ANONYMOUS
) -> str:
    """The key of a request."""
    return key_of(request(b"/a", *lines), principal, client)


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
    """IPv6 clients count by their /64, IPv4 clients by the address, however it is written."""
    assert (subnet(one) == subnet(other)) is same
    assert (keys(ADDRESS, client=one) == keys(ADDRESS, client=other)) is same


@pytest.mark.parametrize(("bits", "same"), [(48, True), (56, True), (64, False), (128, False)])
def test_prefix_can_be_set(bits: int, same: bool) -> None:
    """Two networks of one customer count as one, if the prefix is short enough."""
    one, other = (keys(by_address(bits), client=f"2001:db8:1:{n}::1") for n in (2, 3))
    assert (one == other) is same


def test_no_two_kinds_of_keys_are_alike() -> None:
    """A network is never taken for an address."""
    addresses = ["192.0.2.1", "2001:db8::1", "::1", "20010db800000000"]
    assert len(set(map(subnet, addresses))) == len(addresses)


@given(st.text(max_size=40))
def test_any_client_is_somebody(client: str) -> None:
    """Whatever a server says of a peer is a key, and no bug."""
    assert isinstance(keys(ADDRESS, client=client), str)


def test_caller_is_subject_and_issuer() -> None:
    """Two issuers' subjects of one name have two budgets; requests without a token count by address."""
    key_of = by_caller(ADDRESS)
    ann = Principal("ann", issuer="https://a")
    others = (Principal("ann", issuer="https://b"), Principal("ann"), Principal("192.0.2.1"))
    different = {keys(key_of, principal=one) for one in (ann, *others, ANONYMOUS)}
    assert len(different) == 5
    assert keys(key_of, principal=ann, client="203.0.113.9") in different
    assert keys(key_of, client="2001:db8::1") == keys(ADDRESS, client="2001:db8::2")


def test_header_is_a_key() -> None:
    """The name counts in any case; the address stands for a header that is missing or empty."""
    key_of = by_header("X-Key", ADDRESS)
    one = keys(key_of, b"X-Key: k1")
    assert keys(key_of, b"x-KEY:k1 ", client="203.0.113.9") == one
    assert keys(key_of, b"X-Key: k2") != one
    assert keys(key_of, b"X-Key: k1", b"X-Key: k2") != one
    assert keys(key_of) == keys(key_of, b"X-Key:") == keys(ADDRESS)


def test_header_is_no_address() -> None:
    """A client that writes an address into the header, or a digest, gets no budget of somebody else's."""
    key_of = by_header("X-Key", ADDRESS)
    assert keys(key_of, b"X-Key: 192.0.2.1") != keys(ADDRESS)
    long = keys(key_of, b"X-Key: " + b"k" * 5000)
    assert len(long) <= 64
    assert keys(key_of, b"X-Key: " + long.encode()) != long


def test_claim_is_a_key() -> None:
    """A claim counts by its value and kind; the address stands for one that is missing."""

    def read(principal: Principal) -> object:
        return principal.claims.get("plan")

    key_of = by_claim(read, ADDRESS)
    claims: list[Any] = ["gold", "silver", 1, "1", ["a", "b"], {"b": 1, "a": 2}, True, "192.0.2.1"]
    found = {keys(key_of, principal=Principal("a", claims={"plan": claim})) for claim in claims}
    assert len(found) == len(claims)
    assert keys(key_of, principal=Principal("a")) == keys(ADDRESS)
    assert keys(key_of, principal=Principal("a", claims={"plan": ""})) == keys(ADDRESS)


def test_joined_keys() -> None:
    """Each combination is counted for itself, and no two combinations are spelled alike."""
    key_of = joined([by_header("A", ADDRESS), by_header("B", ADDRESS), by_name("orders")])
    found = {
        keys(key_of, b"A: " + a, b"B: " + b)
        for a, b in ((b"1", b"2"), (b"12", b"1"), (b"1", b"22"), (b"2", b"1"))
    }
    assert len(found) == 4


@pytest.mark.parametrize("key_of", [ADDRESS, by_name(""), by_caller(ADDRESS)])
def test_all_at_once(key_of: Callable[..., str]) -> None:
    """Of a thousand requests in one turn of the loop exactly the burst passes."""
    world = World({"rule": bucket(1, 100), "key_of": key_of})
    assert [world.ask().error is None for _ in range(1000)].count(True) == 100
