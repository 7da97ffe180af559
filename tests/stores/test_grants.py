"""Refresh tokens: good once, and one that is used twice ends all that came of its login."""

import sqlite3
from collections.abc import Callable

import pytest

from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.principal import Principal
from propylon.stores import grants as module
from propylon.stores.clocks import MARGIN
from propylon.stores.grants import Grant
from tests.stores.kept import HOUR, NOON, Kept

Start = Callable[[], Kept]
READ = frozenset({"read"})


def begin(kept: Kept, token_id: str = "a1", subject: str = "ann") -> str:
    """Log in."""
    return kept.run(kept.grants.begin(subject, READ, token_id, kept.clock.now + 1800))


def renew(kept: Kept, token: str, token_id: str) -> str | None:
    """Exchange a token."""
    return kept.run(kept.grants.renew(token, token_id, kept.clock.now + 1800))


def find(kept: Kept, token: str) -> Grant | None:
    """Look a token up."""
    return kept.run(kept.grants.find(token))


def revoked(kept: Kept, *token_ids: str) -> list[bool]:
    """Which of these access tokens are."""
    tokens = [Verified(Principal("ann"), NOON * 2, NOON, token_id) for token_id in token_ids]
    return [kept.memory.revoked(token, lambda: "") for token in tokens]


def test_what_it_stands_for(kept: Kept) -> None:
    """Whose it is, what was granted, and that it is the newest."""
    token = begin(kept)
    grant = find(kept, token)
    assert grant is not None
    assert (grant.subject, grant.scopes, grant.current) == ("ann", READ, True)


def test_tokens_are_not_kept(kept: Kept) -> None:
    """Who reads the database cannot use what is in it."""
    token = begin(kept)
    files = b"".join(file.read_bytes() for file in kept.file.parent.iterdir())
    assert token[:32].encode() in files
    assert token[32:].encode() not in files
    assert token.encode() not in files


@pytest.mark.parametrize(
    "change",
    [
        lambda token: "",
        lambda token: token[:-1],
        lambda token: token + "0",
        lambda token: token.upper() + "\n",
        lambda token: "f" * 32 + token[32:],
        lambda token: token + "\n",
        lambda token: "é" + token[1:],
        lambda token: "' OR '1'='1" + token[11:],
    ],
)
def test_what_is_no_token(kept: Kept, change: Callable[[str], str]) -> None:
    """Nobody knows it."""
    assert find(kept, change(begin(kept))) is None


def test_a_chain(kept: Kept) -> None:
    """Each is exchanged for its successor; only the newest is current."""
    first = begin(kept)
    second = renew(kept, first, "a2")
    assert second is not None
    assert second != first
    third = renew(kept, second, "a3")
    assert third is not None
    current = [grant.current for token in (first, second, third) if (grant := find(kept, token))]
    assert current == [False, False, True]


def test_an_old_one_gets_nothing(kept: Kept) -> None:
    """Whoever brings a used one gets no successor, and the newest stays what it was."""
    first = begin(kept)
    second = renew(kept, first, "a2")
    assert second is not None
    assert renew(kept, first, "a3") is None
    assert renew(kept, second, "a4") is not None


def test_a_guess_is_an_old_one(kept: Kept) -> None:
    """The name of a family with another secret is not current: its owner lost the token, or another."""
    first = begin(kept)
    guess = first[:32] + "0" * 64
    grant = find(kept, guess)
    assert grant is not None
    assert not grant.current
    assert renew(kept, guess, "a2") is None


@pytest.mark.parametrize("others", [1, 5])
def test_two_at_once(worker: Start, others: int) -> None:
    """Of all who exchange the same token at the same moment, in any worker, one succeeds."""
    workers = [worker() for _ in range(2)]
    token = begin(workers[0])
    done = workers[0].together(
        *(
            workers[number % 2].grants.renew(token, f"a{number}", NOON + 1800)
            for number in range(1 + others)
        )
    )
    won = [found for found in done if found is not None]
    assert len(won) == 1
    assert isinstance(won[0], str)
    grant = find(workers[0], won[0])
    assert grant is not None
    assert grant.current


def test_the_end(worker: Start) -> None:
    """The refresh tokens of a family are unknown after it, its access tokens revoked, everywhere."""
    first, second = worker(), worker()
    token = begin(first, "a1")
    successor = renew(first, token, "a2")
    begin(first, "b1")
    assert successor is not None
    first.run(first.grants.end(token[:32]))
    assert [find(first, one) for one in (token, successor)] == [None, None]
    assert renew(first, successor, "a3") is None
    assert revoked(first, "a1", "a2", "b1") == [True, True, False]
    second.run(second.journal.catch_up())
    assert revoked(second, "a1", "a2", "b1") == [True, True, False]


def test_the_end_of_nothing(kept: Kept) -> None:
    """Ending what has ended already, or never was, is no error."""
    token = begin(kept)
    for family in (token[:32], token[:32], "0" * 32):
        kept.run(kept.grants.end(family))
    assert revoked(kept, "a1") == [True]


def test_an_end_and_a_renewal_at_once(worker: Start) -> None:
    """Whoever comes first: no access token of an ended family is left."""
    first, second = worker(), worker()
    for number in range(10):
        token = begin(first, f"begun-{number}")
        renewed, _ = first.together(
            second.grants.renew(token, f"renewed-{number}", NOON + 1800),
            first.grants.end(token[:32]),
        )
        assert revoked(first, f"begun-{number}") == [True]
        if renewed is not None:
            assert isinstance(renewed, str)
            assert find(first, renewed) is None
            assert revoked(first, f"renewed-{number}") == [True]


def test_a_login_does_not_last_for_ever(kept: Kept) -> None:
    """It ends at its time, however often it was renewed."""
    token: str | None = begin(kept)
    for hour in range(24):
        assert token is not None
        assert find(kept, token) is not None, hour
        token = renew(kept, token, f"b{hour}")
        kept.clock.now += HOUR
    assert token is not None
    assert find(kept, token) is None


def count(kept: Kept, table: str) -> int:
    """How many rows there are."""
    with sqlite3.connect(kept.file) as connection:
        (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return int(found)


def test_what_expired_long_ago_leaves(kept: Kept) -> None:
    """A login that is over leaves nothing behind after the margin, whether users log in or not."""
    token: str | None = begin(kept, "b0")
    for hour in range(1, 20):
        assert token is not None
        kept.wait(HOUR)
        token = renew(kept, token, f"b{hour}")
    kept.wait(24 * HOUR)
    kept.run(kept.pruning.prune())
    assert count(kept, "refresh_families") == 1
    kept.wait(MARGIN)
    kept.run(kept.pruning.prune())
    assert (count(kept, "refresh_families"), count(kept, "access_tokens")) == (0, 0)


def test_a_login_that_goes_on_keeps_little(kept: Kept) -> None:
    """Its access tokens leave at a refresh, after the margin."""
    kept.grants.expires = 30 * 24 * HOUR
    token: str | None = begin(kept, "b0")
    for day in range(1, 20):
        assert token is not None
        kept.wait(24 * HOUR)
        token = renew(kept, token, f"b{day}")
    assert count(kept, "access_tokens") == 3


def test_a_token_within_the_leeway_ends_too(kept: Kept) -> None:
    """An access token that has just expired may count a little longer elsewhere: it is revoked as well."""
    kept.memory._leeway = 600.0
    token = begin(kept, "a1")
    kept.clock.now += 1800 + 300
    successor = renew(kept, token, "a2")
    assert successor is not None
    kept.run(kept.grants.end(token[:32]))
    assert revoked(kept, "a1", "a2") == [True, True]


# The grace


def test_a_lost_answer(kept: Kept) -> None:
    """The client sends the token again and gets another successor; the login goes on from there."""
    kept.grants.grace = 10.0
    first = begin(kept)
    lost = renew(kept, first, "a2")
    kept.wait(9.9)
    grant = find(kept, first)
    assert grant is not None
    assert grant.current
    second = renew(kept, first, "a3")
    assert second not in {None, lost, first}
    kept.wait(60)
    assert second is not None
    assert renew(kept, second, "a4") is not None


def test_two_tabs(kept: Kept) -> None:
    """Both exchange the same token, and both go on, each with its own."""
    kept.grants.grace = 10.0
    token = begin(kept)
    tabs = [renew(kept, token, f"tab {number}") for number in range(2)]
    for number in range(6):
        kept.wait(1800)
        tab = tabs[number % 2]
        assert tab is not None
        tabs[number % 2] = renew(kept, tab, f"later {number}")
    assert None not in tabs


@pytest.mark.parametrize(("grace", "after"), [(10.0, 10.0), (10.0, 3600.0), (0.0, 0.0), (0.0, 5.0)])
def test_after_the_grace(kept: Kept, grace: float, after: float) -> None:
    """A used token is an old one again: it gets nothing."""
    kept.grants.grace = grace
    first = begin(kept)
    renew(kept, first, "a2")
    kept.wait(after)
    grant = find(kept, first)
    assert grant is not None
    assert not grant.current
    assert renew(kept, first, "a3") is None


def test_a_tab_that_comes_again_after_the_grace(kept: Kept) -> None:
    """Each of the successors may be used once only."""
    kept.grants.grace = 10.0
    token = begin(kept)
    first, second = (renew(kept, token, f"tab {number}") for number in range(2))
    assert first is not None
    assert second is not None
    assert renew(kept, first, "b") is not None
    kept.wait(11)
    assert renew(kept, first, "c") is None
    assert renew(kept, second, "d") is not None


def test_the_grace_is_bounded(kept: Kept) -> None:
    """A token that is sent again and again within it yields no unlimited number of valid ones."""
    kept.grants.grace = 10.0
    token = begin(kept)
    done = [renew(kept, token, f"again {number}") for number in range(40)]
    assert 2 < sum(one is not None for one in done) <= module._MOST_LIVE + 2


def test_the_end_is_the_end_of_all(kept: Kept) -> None:
    """All successors of a grace are unknown after it."""
    kept.grants.grace = 10.0
    token = begin(kept)
    tabs = [renew(kept, token, f"tab {number}") for number in range(3)]
    kept.run(kept.grants.end(token[:32]))
    assert [find(kept, tab) for tab in tabs if tab] == [None] * 3
    assert count(kept, "refresh_tokens") == 0


def test_logins_are_listed(kept: Kept) -> None:
    """Whose they are, since when, from where; not those that have ended."""
    token = kept.run(kept.grants.begin("ann", READ, "a1", NOON + 60, "192.0.2.1"))
    begin(kept, "b1", "bob")
    kept.wait(60)
    renew(kept, token, "a2")
    begin(kept, "a3")
    found = kept.run(kept.grants.logins("ann"))
    assert [(one.begun, one.renewed, one.address) for one in found] == [
        (NOON, NOON + 60, "192.0.2.1"),
        (NOON + 60, None, ""),
    ]
    assert kept.run(kept.grants.came_from("ann", "192.0.2.1"))
    assert not kept.run(kept.grants.came_from("bob", "192.0.2.1"))
    kept.run(kept.grants.end(found[0].id))
    assert [one.id for one in kept.run(kept.grants.logins("ann"))] == [found[1].id]
