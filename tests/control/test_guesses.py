"""Guessing passwords: refused for a pair of name and address, slowed down for a name, and no user is locked out."""

import pytest

from propylon.errors import RateLimited
from propylon.proxy.authenticate import guesses as module
from propylon.proxy.authenticate.guesses import Guesses
from tests.control.token_api import TokenApi
from tests.stores.kept import PASSWORD, Clock

HOME, OFFICE = "192.0.2.7", "198.51.100.7"


def attempt(api: TokenApi, password: str = "wrong horse", name: str = "ann") -> int:
    """Try to log in; return the status."""
    return api.post("/auth/token", username=name, password=password).status_code


def test_too_many_failures_of_a_pair(api: TokenApi) -> None:
    """That address is refused for that name, with Retry-After; the user logs in from another one."""
    api.add("ann")
    api.add("bob")
    assert [attempt(api) for _ in range(module._MOST)] == [401] * module._MOST
    for name in ("ann", "ANN"):
        answer = api.post("/auth/token", username=name, password=PASSWORD)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= module._WINDOW
    verified = api.kept.passwords.verified
    assert attempt(api) == 429
    assert api.kept.passwords.verified == verified
    assert attempt(api, PASSWORD, "bob") == 200
    api.client = OFFICE
    assert attempt(api, PASSWORD) == 200


def test_it_is_over_after_a_while(api: TokenApi) -> None:
    """The pair is counted anew; a success ends the count."""
    api.add("ann")
    for _ in range(module._MOST):
        attempt(api)
    api.kept.wait(module._WINDOW)
    for _ in range(3):
        assert [attempt(api) for _ in range(module._MOST - 1)] == [401] * (module._MOST - 1)
        assert attempt(api, PASSWORD) == 200


def test_a_name_is_only_slowed_down(api: TokenApi) -> None:
    """From ever new addresses each attempt waits longer, up to two seconds, and none is refused."""
    api.add("ann")
    for number in range(15):
        api.client = f"203.0.113.{number}"
        assert attempt(api) == 401
    assert api.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert attempt(api, PASSWORD) == 200


def test_a_known_address_does_not_wait(api: TokenApi) -> None:
    """Who has logged in from there before feels nothing of an attack from elsewhere."""
    api.add("Ann")
    api.client = HOME
    assert attempt(api, PASSWORD) == 200
    for number in range(8):
        api.client = f"203.0.113.{number}"
        attempt(api)
    api.slept.clear()
    api.client = HOME
    assert attempt(api, PASSWORD, "ANN") == 200
    assert api.slept == []
    api.client = OFFICE
    assert attempt(api, PASSWORD) == 200
    assert len(api.slept) == 1


def test_names_that_do_not_exist_wait_as_long(api: TokenApi) -> None:
    """The delay tells nobody which names there are."""
    api.add("ann")
    delays = {}
    for name in ("ann", "nobody"):
        api.slept.clear()
        for number in range(8):
            api.client = f"203.0.113.{number}"
            attempt(api, name=name)
        delays[name] = list(api.slept)
    assert delays["ann"] == delays["nobody"] != []


def test_addresses_of_one_customer_are_one() -> None:
    """A /64 of IPv6 counts as an address."""
    guesses = Guesses(Clock(0.0))
    for number in range(module._MOST):
        guesses.check("ann", f"2001:db8::{number + 1:x}")
    with pytest.raises(RateLimited):
        guesses.check("ann", "2001:db8::ffff")
    guesses.check("ann", "2001:db8:0:1::1")


def test_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attacker with many names fills no memory."""
    monkeypatch.setattr(module, "_MAX_KEYS", 5)
    guesses = Guesses(Clock(0.0))
    for number in range(50):
        guesses.check(f"user {number}", HOME)
        guesses.failed(f"user {number}")
    assert (len(guesses._pairs._counts), len(guesses._names._counts)) == (5, 5)
