"""Sharing a route out among services."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.exchange import Exchange
from propylon.proxy.split import Part, Shares
from tests.proxy.doubles import Client, request, route, service
from tests.support.examples import examples

REQUESTS = 500


def shares(*weights: int) -> Shares:
    """A service for each weight, called 0, 1, 2, ..."""
    parts = [route(of=service(name=str(at))) for at in range(len(weights))]
    return Shares([Part(one, weight) for one, weight in zip(parts, weights, strict=True)])


def chosen(among: Shares, times: int) -> Counter[str]:
    """How often each service is chosen."""
    asked = request()
    exchange = Exchange(asked, Client(), b"0" * 80, 0.0)
    return Counter(among.choose(exchange, asked).service.name for _ in range(times))


@given(st.lists(st.integers(0, 1_000_000), min_size=1, max_size=5).filter(any))
@examples(60)
def test_shares_within_one_percent(weights: list[int]) -> None:
    """Of any five hundred requests, each service gets its share, within 1 %; without a weight, none."""
    among = shares(*weights)
    for _ in range(2):
        counts = chosen(among, REQUESTS)
        for at, weight in enumerate(weights):
            share = counts[str(at)] / REQUESTS
            assert abs(share - weight / sum(weights)) <= 0.01
            assert weight or not share


def test_parts_of_a_route() -> None:
    """Its routes to its services, in the order of the file; a route to one service is its own only part."""
    alone = route()
    assert alone.parts == (alone,)
    among = shares(2, 0, 1)
    assert [one.service.name for one in route(split=among).parts] == ["0", "1", "2"]


def test_changed_parts_keep_their_shares() -> None:
    """As `explain` has them, which wraps the stages of each."""
    renamed = shares(3, 1).changed(lambda _: route(of=service(name="other")))
    assert chosen(renamed, 8) == {"other": 8}
    assert len(renamed.routes) == 2
