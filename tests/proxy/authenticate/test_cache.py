"""What is remembered of credentials, and within which bounds."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from propylon.proxy.authenticate.cache import Cache
from tests.support.examples import examples

LIMIT, SIZE = 4, 20
KEYS = st.binary(max_size=12)


def filled(*keys: bytes, limit: int = LIMIT, size: int = SIZE) -> Cache[bytes]:
    """A cache in which each key was put, as its own value."""
    cache: Cache[bytes] = Cache(limit, size)
    for key in keys:
        cache.put(key, key)
    return cache


def known(cache: Cache[bytes], *keys: bytes) -> list[bytes]:
    """Which of these keys are known."""
    return [key for key in keys if cache.get(key) is not None]


def test_what_was_put_is_found() -> None:
    """An entry is found by its whole key, byte for byte, until it is dropped."""
    cache = filled(b"a", b"b")
    assert cache.get(b"a") == b"a"
    assert known(cache, b"A", b"a ", b"", b"ab") == []
    cache.drop(b"a")
    assert (known(cache, b"a", b"b"), len(cache)) == ([b"b"], 1)


def test_the_oldest_leave_first() -> None:
    """The entry that is one too many takes the place of the oldest."""
    cache = filled(b"a", b"b", b"c", b"d", b"e")
    assert known(cache, b"a", b"b", b"c", b"d", b"e") == [b"b", b"c", b"d", b"e"]


def test_what_is_put_again_is_new() -> None:
    """It has the newer value, counts once, and is no longer the oldest."""
    cache = filled(b"a", b"b", b"c", b"d")
    cache.put(b"a", b"newer")
    assert (len(cache), cache.get(b"a")) == (4, b"newer")
    cache.put(b"e", b"e")
    assert known(cache, b"a", b"b", b"c", b"d", b"e") == [b"a", b"c", b"d", b"e"]


def test_long_keys_make_room_for_themselves() -> None:
    """Keys are bounded by what they weigh together, too."""
    cache = filled(b"a" * 5, b"b" * 5, b"c" * 5)
    cache.put(b"d" * 11, b"d")
    assert known(cache, b"a" * 5, b"b" * 5, b"c" * 5, b"d" * 11) == [b"c" * 5, b"d" * 11]
    assert len(cache) == 2


@pytest.mark.parametrize("forget", [Cache.clear, lambda cache: cache.drop(b"x" * SIZE)])
def test_what_is_forgotten_weighs_nothing(forget: Callable[[Cache[bytes]], None]) -> None:
    """After everything has left there is as much room as at the beginning."""
    cache = filled(b"x" * SIZE)
    forget(cache)
    assert (len(cache), cache.get(b"x" * SIZE)) == (0, None)
    keys = [b"%05d" % number for number in range(LIMIT)]
    for key in keys:
        cache.put(key, key)
    assert known(cache, *keys) == keys


def test_dropping_what_is_not_there() -> None:
    """Nothing happens, and nothing is made room for twice."""
    cache = filled(b"a" * 10, b"b" * 10)
    cache.drop(b"c" * 10)
    cache.put(b"c", b"c")
    assert known(cache, b"a" * 10, b"b" * 10, b"c") == [b"b" * 10, b"c"]


def test_a_value_may_be_anything_but_none() -> None:
    """A verdict that says no is remembered as well as one that says yes."""
    cache: Cache[tuple[None, float]] = Cache(2, 10)
    cache.put(b"bad", (None, 1.0))
    assert cache.get(b"bad") == (None, 1.0)


@given(st.lists(KEYS, max_size=40))
def test_never_more_than_the_bounds(keys: list[bytes]) -> None:
    """Whatever is put in, neither the entries nor what their keys weigh exceed the bounds."""
    cache = filled(*keys)
    held = {key for key in keys if cache.get(key) is not None}
    assert len(held) == len(cache) <= LIMIT
    assert sum(map(len, held)) <= SIZE
    if keys:
        assert cache.get(keys[-1]) == keys[-1]  # the newest is always there


class Bounded(RuleBasedStateMachine):
    """A cache beside the plainest model of one: a list of pairs, the oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Cache[int] = Cache(LIMIT, SIZE)
        self.model: dict[bytes, int] = {}

    @rule(key=KEYS, value=st.integers(0, 9))
    def put(self, key: bytes, value: int) -> None:
        """The oldest leave until the new one fits."""
        self.cache.put(key, value)
        self.model.pop(key, None)
        while self.model and (
            len(self.model) >= LIMIT or sum(map(len, self.model)) + len(key) > SIZE
        ):
            del self.model[next(iter(self.model))]
        self.model[key] = value

    @rule(key=KEYS)
    def drop(self, key: bytes) -> None:
        """Only that one."""
        self.cache.drop(key)
        self.model.pop(key, None)

    @rule()
    def clear(self) -> None:
        """All."""
        self.cache.clear()
        self.model.clear()

    @invariant()
    def is_the_model(self) -> None:
        """What the model has is there, and nothing else."""
        assert len(self.cache) == len(self.model)
        assert {key: self.cache.get(key) for key in self.model} == self.model


TestBounded = Bounded.TestCase
TestBounded.settings = examples(30, stateful_step_count=25)
