"""Revocations that all workers share: written down, read by the others, known after a restart."""

import math
import sqlite3
from collections.abc import Callable

import pytest

from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation, of_all, of_subject
from propylon.proxy.principal import Principal
from propylon.stores import journal as module
from tests.stores.kept import HOUR, NOON, Kept

Start = Callable[[], Kept]


def one(token_id: str = "one", expires: float = NOON + 1800) -> Revocation:
    """The revocation of one token."""
    return Revocation(Kind.ID, token_id, expires)


def is_revoked(
    kept: Kept, token_id: str = "one", subject: str = "ann", issued: float = NOON
) -> bool:
    """What a worker's hot path says."""
    verified = Verified(Principal(subject), NOON + 1800, issued, token_id)
    return kept.memory.revoked(verified, lambda: "sha256:1")


def rows(kept: Kept) -> list[int]:
    """The numbers in the journal."""
    with sqlite3.connect(kept.file) as connection:
        found = [row[0] for row in connection.execute("SELECT id FROM revocations ORDER BY id")]
    connection.close()
    return found


def test_it_reaches_the_others(worker: Start) -> None:
    """In force here at once, with the next reading everywhere, and after a restart, too."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(one()))
    assert is_revoked(first)
    assert not is_revoked(second)
    second.run(second.journal.catch_up())
    assert is_revoked(second)
    assert not is_revoked(second, "two")
    restarted = worker()
    restarted.run(restarted.journal.catch_up())
    assert is_revoked(restarted)


@pytest.mark.parametrize(
    "revocation",
    [
        one(),
        Revocation(Kind.DIGEST, "sha256:1", NOON + 1800),
        of_subject("änn", NOON + 0.125),
        of_all(NOON),
    ],
)
def test_every_kind_arrives_as_it_was(worker: Start, revocation: Revocation) -> None:
    """Kind, value and moment, to the fraction of a second."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(revocation))
    seen: list[Revocation] = []
    second.memory.apply = seen.append  # type: ignore[method-assign]
    second.run(second.journal.catch_up())
    assert seen == [revocation]


def test_only_news_are_read(worker: Start) -> None:
    """What was read is not read again."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(one("one")))
    second.run(second.journal.catch_up())
    seen: list[Revocation] = []
    second.memory.apply = seen.append  # type: ignore[method-assign]
    first.run(first.journal.revoke(one("two")))
    second.run(second.journal.catch_up())
    second.run(second.journal.catch_up())
    assert seen == [one("two")]


def test_a_late_number_is_not_missed(worker: Start) -> None:
    """A row that can be seen only after a later one was is read when it turns up."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(one("first")))
    late = [(2, "late"), (4, "later")]

    def put(number: int, value: str) -> None:
        with sqlite3.connect(first.file) as connection:
            connection.execute(
                "INSERT INTO revocations VALUES (?, 'id', ?, ?, ?)",
                (number, value, NOON + 1800, NOON + 1800),
            )
        connection.close()

    put(5, "last")
    second.run(second.journal.catch_up())
    for number, value in late:
        assert not is_revoked(second, value)
        put(number, value)
        second.run(second.journal.catch_up())
        assert is_revoked(second, value)
    assert second.journal._gaps == {3}


def test_numbers_that_never_come_are_given_up(worker: Start) -> None:
    """The missing ones that are asked for stay few, however many failed."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(one("first")))
    for number in range(1, 200):
        second.journal._note_read([number * 7])
    assert len(second.journal._gaps) < module._GAP_WINDOW
    assert min(second.journal._gaps) > 199 * 7 - module._GAP_WINDOW - 7


def test_it_must_be_written_down(worker: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it cannot be, whoever asked is told so; here it is in force all the same."""
    first = worker()
    first.file.mkdir()
    with pytest.raises(ServiceUnavailable):
        first.run(first.journal.revoke(one()))
    assert is_revoked(first)
    with pytest.raises(ServiceUnavailable):
        first.run(first.journal.catch_up())
    assert is_revoked(first)


def test_since_looks_first(worker: Start) -> None:
    """Whoever issues a token learns of a revocation that another worker wrote a moment ago."""
    first, second = worker(), worker()
    assert second.run(second.journal.since("ann")) == -math.inf
    first.run(first.journal.revoke(of_subject("ann", NOON)))
    assert second.run(second.journal.since("ann")) == NOON
    assert second.run(second.journal.since("bob")) == -math.inf


def test_what_is_over_leaves(kept: Kept) -> None:
    """Rows that make no difference any more are removed with a later login; numbers are not used again."""
    kept.run(kept.journal.revoke(one("one", NOON + 60)))
    kept.run(kept.journal.revoke(one("two", NOON + 3 * HOUR)))
    kept.run(kept.journal.revoke(one("three", NOON + 60)))
    kept.run(kept.grants.begin("ann", frozenset(), "a", NOON + 60))
    assert rows(kept) == [1, 2, 3]
    kept.clock.now += 2 * HOUR
    kept.run(kept.grants.begin("ann", frozenset(), "b", NOON + 60))
    assert rows(kept) == [2]
    kept.run(kept.journal.revoke(one("four", NOON + 4 * HOUR)))
    assert rows(kept) == [2, 4]


def test_logins_end_with_their_tokens(kept: Kept) -> None:
    """What was issued before a moment does not come back by refreshing; later logins stay."""
    tokens = {}
    for number, subject in enumerate(["ann", "bob"]):
        tokens[subject] = kept.run(kept.grants.begin(subject, frozenset(), f"a{number}", NOON))
    kept.clock.now += 60
    kept.run(kept.journal.revoke(of_subject("ann", kept.clock.now)))
    tokens["again"] = kept.run(kept.grants.begin("ann", frozenset(), "a3", NOON))
    found = {name: kept.run(kept.grants.find(token)) is not None for name, token in tokens.items()}
    assert found == {"ann": False, "bob": True, "again": True}
    kept.run(kept.journal.revoke(of_all(kept.clock.now)))
    found = {name: kept.run(kept.grants.find(token)) is not None for name, token in tokens.items()}
    assert found == {"ann": False, "bob": False, "again": True}


def test_a_renewed_login_is_as_old_as_its_beginning(kept: Kept) -> None:
    """What came of a token that is taken back is taken back with it, however new it is."""
    first = kept.run(kept.grants.begin("ann", frozenset(), "a", NOON))
    kept.clock.now += 60
    renewed = kept.run(kept.grants.renew(first, "b", NOON))
    assert renewed is not None
    kept.run(kept.journal.revoke(of_all(NOON + 30)))
    assert kept.run(kept.grants.find(renewed)) is None


def test_a_restored_backup_hides_nothing(worker: Start) -> None:
    """Numbers that are given out again are read again."""
    first, second = worker(), worker()
    for number in range(5):
        first.run(first.journal.revoke(one(f"lost {number}")))
    second.run(second.journal.catch_up())
    with sqlite3.connect(first.file) as connection:
        connection.execute("DELETE FROM revocations")
        connection.execute("DELETE FROM sqlite_sequence WHERE name = 'revocations'")
    connection.close()
    first.run(first.journal.revoke(one("since")))
    second.run(second.journal.catch_up())
    assert rows(first) == [1]
    assert is_revoked(second, "since")
    first.run(first.journal.revoke(one("later")))
    second.run(second.journal.catch_up())
    assert is_revoked(second, "later")
    assert is_revoked(second, "lost 0")
