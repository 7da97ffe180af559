"""How often who may: at once, in the long run, and counted by whom."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import RateLimited
from propylon.names.addresses import subnet
from propylon.proxy.limit import Buckets, Limit, by_caller, by_client, by_route
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.headers import values
from tests.proxy.doubles import request, run

BEGAN = 12_345.678


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        """The time."""
        return self.now


def buckets(rate: float = 10.0, burst: int = 20, **options: int) -> tuple[Buckets, Clock]:
    """Buckets and their clock."""
    clock = Clock()
    return Buckets(rate, burst, clock, **options), clock


def passing(some: Buckets, key: str, times: int) -> int:
    """How many of so many pass."""
    return sum(some.take(key) == 0.0 for _ in range(times))


# The bucket


@pytest.mark.parametrize(("rate", "burst"), [(10.0, 20), (1.0, 1), (10 / 60, 10), (1000.0, 3)])
def test_so_many_at_once(rate: float, burst: int) -> None:
    """As many as the burst, and not one more."""
    some, _ = buckets(rate, burst)
    assert passing(some, "a", burst + 50) == burst


def test_a_second_later() -> None:
    """As many more as the rate has it, up to the burst again."""
    some, clock = buckets(10.0, 20)
    passing(some, "a", 20)
    clock.now += 1
    assert passing(some, "a", 50) == 10
    clock.now += 0.35
    assert passing(some, "a", 50) == 3
    clock.now += 3600
    assert passing(some, "a", 50) == 20


def test_one_after_the_other() -> None:
    """Whoever keeps to the rate is never refused, however long it goes on."""
    some, clock = buckets(10 / 60, 1)
    for _ in range(500):
        assert some.take("a") == 0.0
        clock.now += 6


def test_how_long_to_wait() -> None:
    """What is missing is exact: not a moment earlier, and then it passes."""
    some, clock = buckets(10 / 60, 10)
    passing(some, "a", 10)
    assert some.take("a") == pytest.approx(6.0)
    clock.now += 5.9
    assert some.take("a") == pytest.approx(0.1)
    clock.now += 0.11
    assert some.take("a") == 0.0
    assert some.take("a") == pytest.approx(5.99)


def test_refusals_cost_nothing() -> None:
    """Whoever hammers at the door is let in as soon as whoever waits."""
    some, clock = buckets(1.0, 1)
    assert some.take("a") == 0.0
    for _ in range(1000):
        assert some.take("a") > 0
    clock.now += 1
    assert some.take("a") == 0.0


def test_each_key_has_its_own() -> None:
    """Nobody is refused for what another one did."""
    some, _ = buckets(1.0, 3)
    assert [passing(some, key, 10) for key in ("a", "b", "A", "")] == [3, 3, 3, 3]


def test_a_clock_that_stands_or_goes_back() -> None:
    """Nobody waits for longer than it takes to fill the bucket."""
    some, clock = buckets(1.0, 3)
    passing(some, "a", 3)
    clock.now -= 1000
    assert some.take("a") <= 1000 + 3
    clock.now += 1001
    assert some.take("a") == 0.0


@given(
    rate=st.sampled_from([0.1, 1.0, 3.0, 7.5, 100.0]),
    burst=st.integers(1, 12),
    pauses=st.lists(st.floats(0, 5), max_size=80),
)
def test_in_any_window(rate: float, burst: int, pauses: list[float]) -> None:
    """Between any two moments no more pass than the burst and what the rate brings meanwhile."""
    some, clock = buckets(rate, burst)
    passed = []
    for pause in pauses:
        clock.now += pause
        if some.take("a") == 0.0:
            passed.append(clock.now)
    for first, begin in enumerate(passed):
        for count, end in enumerate(passed[first:], 1):
            assert count <= burst + rate * (end - begin) + 1e-6


@given(st.floats(0.01, 1000), st.integers(1, 50))
def test_whoever_waits_as_told_is_let_in(rate: float, burst: int) -> None:
    """`Retry-After` keeps its word, whatever the numbers."""
    some, clock = buckets(rate, burst)
    for _ in range(3):
        while (missing := some.take("a")) == 0.0:
            pass
        assert 0 < missing <= 1 / rate + 1e-6
        clock.now += missing
        assert some.take("a") == 0.0


# How much is remembered


def test_memory_is_bounded() -> None:
    """However many there are, no more keys are held; the newest is one of them."""
    some, _ = buckets(1.0, 1, keys=100)
    for number in range(1000):
        assert some.take(str(number)) == 0.0
        assert len(some._arrivals) <= 100
    assert some.take("999") > 0
    assert some.take("950") > 0


def test_the_idle_leave_first() -> None:
    """Whose bucket is full again loses nothing; whoever has to wait goes on waiting."""
    some, clock = buckets(1.0, 1, keys=10)
    for number in range(9):
        some.take(f"idle-{number}")
    clock.now += 0.5
    some.take("busy")
    clock.now += 0.5
    for number in range(9):
        assert some.take(f"new-{number}") == 0.0
        assert len(some._arrivals) <= 10
    assert some.take("busy") > 0
    assert not any(key.startswith("idle") for key in some._arrivals)


def test_the_idle_leave_by_themselves() -> None:
    """What nobody asks for any more is not held until the memory is full."""
    some, clock = buckets(1.0, 1)
    for number in range(1000):
        some.take(str(number))
    clock.now += 2
    for number in range(1000):
        some.take(f"later-{number % 10}")
        clock.now += 1
    assert len(some._arrivals) <= 20


def test_the_oldest_make_room() -> None:
    """While all have to wait, whoever was let in longest ago is forgotten first, not whoever came first."""
    some, clock = buckets(1 / 3600, 5, keys=10)
    for number in range(10):
        some.take(str(number))
    clock.now += 1
    some.take("0")
    some.take("new")
    assert "0" in some._arrivals
    assert "1" not in some._arrivals
    assert len(some._arrivals) <= 10


def test_whoever_is_known_needs_no_room() -> None:
    """A full memory changes nothing for those in it."""
    some, clock = buckets(1.0, 2, keys=10)
    for number in range(10):
        some.take(str(number))
    assert [some.take(str(number)) for number in range(10)] == [0.0] * 10
    clock.now += 0.5
    assert all(some.take(str(number)) > 0 for number in range(10))
    assert len(some._arrivals) == 10


def test_a_flood_of_keys_is_no_work() -> None:
    """While nobody in a full memory is idle, a new key does not have all the others looked at."""

    class Watched(dict[str, float]):
        looked_at = 0

        def items(self) -> Iterable[tuple[str, float]]:  # type: ignore[override]
            for item in super().items():
                Watched.looked_at += 1
                yield item

    keys, more = 200, 1000
    some, _ = buckets(1 / 3600, 10, keys=keys)
    for number in range(keys):
        some.take(f"first-{number}")
    some._arrivals = Watched(some._arrivals)
    for number in range(more):
        assert some.take(f"more-{number}") == 0.0
        assert len(some._arrivals) <= keys
    assert Watched.looked_at <= 10 * more


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


def test_waits_grow_with_what_was_taken_only() -> None:
    """Refused requests do not move the moment at which the next one passes."""
    some, clock = buckets(1.0, 1)
    some.take("a")
    waits = []
    for _ in range(5):
        waits.append(some.take("a"))
        clock.now += 0.1
    assert all(math.isclose(first - second, 0.1) for first, second in pairwise(waits))


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
