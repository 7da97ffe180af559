"""Choosing an instance by a key."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.services.hashing import Rendezvous
from propylon.services.service import Instance
from tests.services.test_balance import heavy, instances
from tests.support.examples import examples

KEYS = [f"user-{at}" for at in range(600)]
PLAIN = Rendezvous()


def placed(among: tuple[Instance, ...]) -> dict[str, str]:
    """The instance of each key."""
    return {key: PLAIN.choose(key, among).id for key in KEYS}


@given(st.lists(st.integers(1, 20), min_size=2, max_size=8), st.data())
@examples(25)
def test_an_instance_that_leaves_moves_only_its_own_keys(
    weights: list[int], data: st.DataObject
) -> None:
    """Each key of another instance stays where it is, whatever the weights; so at most its share of the keys moves."""
    before = heavy(*weights)
    gone = data.draw(st.integers(0, len(before) - 1))
    after = before[:gone] + before[gone + 1 :]
    was, now = placed(before), placed(after)
    moved = {key for key in KEYS if was[key] != now[key]}
    assert moved == {key for key in KEYS if was[key] == before[gone].id}
    share = weights[gone] / sum(weights)
    # Five standard deviations of so many keys.
    assert len(moved) / len(KEYS) <= share + 5 * math.sqrt(share * (1 - share) / len(KEYS))


def test_an_instance_that_comes_takes_keys_to_itself_only() -> None:
    """What it does not take stays; and where the order of the instances is another one, so does all."""
    four = heavy(1, 1, 1, 1)
    was, now = placed(four[:3]), placed(four)
    assert {now[key] for key in KEYS if was[key] != now[key]} == {"d"}
    assert placed(four[::-1]) == now


def test_a_larger_weight_takes_keys_to_itself_only() -> None:
    """No key moves between the others."""
    was, now = placed(heavy(1, 1, 1)), placed(heavy(1, 3, 1))
    assert {now[key] for key in KEYS if was[key] != now[key]} == {"b"}


def test_keys_are_shared_by_weight() -> None:
    """Half of them, a third and a sixth."""
    counts = Counter(placed(heavy(3, 2, 1)).values())
    assert [round(counts[name] / len(KEYS), 1) for name in "abc"] == [0.5, 0.3, 0.2]


def test_all_workers_choose_alike() -> None:
    """The choice hangs on the key and the names: these values are the same in each process, and after each release."""
    assert (
        "".join(PLAIN.choose(str(key), heavy(1, 1, 1)).id for key in range(20))
        == "baaabbabbbaaabcbbcca"
    )


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=6),
    st.floats(1.0, 3.0),
    st.text(max_size=5),
)
@examples(100)
def test_bounded_load(some: list[tuple[int, int]], bound: float, key: str) -> None:
    """Nobody gets a request beyond the bound, and there is always somebody to get it."""
    among = instances(*(busy for busy, _ in some), weights=[weight for _, weight in some])
    chosen = Rendezvous(bound).choose(key, among)
    total = sum(busy for busy, _ in some) + 1
    part = chosen.weight / sum(weight for _, weight in some)
    assert chosen.upstream.busy + 1 <= math.ceil(bound * total * part)


def test_beyond_the_bound_the_next_one_is_asked() -> None:
    """The same that gets the key when the first one has left."""
    idle = instances(0, 0, 0)
    first = PLAIN.choose("hot", idle)
    others = tuple(one for one in idle if one is not first)
    busy = instances(*(9 if one is first else 0 for one in idle))
    assert Rendezvous(1.5).choose("hot", busy).id == PLAIN.choose("hot", others).id
    assert PLAIN.choose("hot", busy).id == first.id


@pytest.mark.parametrize("key", ["", "\udcff", "ключ", "x" * 5000])
def test_any_text_is_a_key(key: str) -> None:
    """Headers hold any bytes."""
    among = heavy(1, 1)
    assert PLAIN.choose(key, among) in among
