"""The small stages: balance, authenticate, authorize."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import Forbidden, ServiceUnavailable
from propylon.proxy import balance
from propylon.proxy.authenticate import anonymous, unverifiable, unverifiable_if_asked
from propylon.proxy.authorize import anybody, loopback_only
from propylon.proxy.principal import ANONYMOUS, Principal
from tests.proxy.doubles import Asked, instance, request, run


@given(st.integers(1, 7), st.integers(1, 4))
def test_round_robin_is_fair(count: int, rounds: int) -> None:
    """Each instance has its turn as often as the others."""
    instances = [instance(Asked(), str(i)) for i in range(count)]
    choose = balance.round_robin()
    chosen = Counter(choose(instances).id for _ in range(count * rounds))
    assert set(chosen.values()) == {rounds}
    assert len(chosen) == count


@given(st.integers(1, 7), st.floats(0, 1, exclude_max=True))
def test_random_takes_any(count: int, chance: float) -> None:
    """Every number in [0, 1) leads to an instance."""
    instances = [instance(Asked(), str(i)) for i in range(count)]
    assert balance.random(lambda: chance)(instances) is instances[int(chance * count)]


def test_nobody_is_asked() -> None:
    """`auth: none`."""
    assert run(anonymous(request())) is ANONYMOUS
    assert (ANONYMOUS.known, str(ANONYMOUS), str(Principal("alice"))) == (
        False,
        "anonymous",
        "alice",
    )


def test_nothing_can_be_verified() -> None:
    """503 for who must be verified or claims something; others pass where they may."""
    with pytest.raises(ServiceUnavailable):
        run(unverifiable(request()))
    with pytest.raises(ServiceUnavailable):
        run(unverifiable_if_asked(request(b"/", b"Authorization: Bearer x")))
    assert run(unverifiable_if_asked(request())) is ANONYMOUS


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_passes(client: str) -> None:
    """Who asks from this machine."""
    loopback_only(ANONYMOUS, client)


@pytest.mark.parametrize("client", ["", "10.0.0.1", "192.0.2.1", "::2", "0.0.0.0", "::"])
def test_others_do_not(client: str) -> None:
    """Nor does a peer without an address."""
    anybody(ANONYMOUS, client)
    with pytest.raises(Forbidden):
        loopback_only(ANONYMOUS, client)
