"""Revocations that all workers share: written down, read by the others, known after a restart."""

import asyncio
import math
import sqlite3
from collections.abc import Callable

import pytest

from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation, of_all, of_subject
from propylon.proxy.principal import Principal
from propylon.stores import journal as module
from propylon.stores.clocks import MARGIN
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
    assert [(gap.first, gap.last) for gap in second.journal._gaps] == [(3, 3)]


def put(kept: Kept, number: int, value: str) -> None:
    """Write a row as a transaction does that began earlier, and commits now."""
    with sqlite3.connect(kept.file) as connection:
        row = (number, value, NOON + 1800, NOON + 1800)
        connection.execute("INSERT INTO revocations VALUES (?, 'id', ?, ?, ?)", row)
    connection.close()


@pytest.mark.parametrize("later", [64, 65, 500])
def test_however_many_come_before_it(worker: Start, later: int) -> None:
    """A row is not missed that is committed after hundreds of later ones."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(one("first")))
    second.run(second.journal.catch_up())
    put(first, 2 + later, "last")
    for number in range(3, 2 + later):
        put(first, number, f"later {number}")
    second.run(second.journal.catch_up())
    assert not is_revoked(second, "late")
    put(first, 2, "late")
    second.monotonic.now += module._GAP_LIFE - 1
    second.run(second.journal.catch_up())
    assert is_revoked(second, "late")


def test_numbers_that_never_come_are_given_up(worker: Start) -> None:
    """After some time they are not asked for any more, and at no time for very many."""
    worker_ = worker()
    for number in range(1, 1000):
        worker_.journal._note_read([number * 7])
    assert len(worker_.journal._gaps) == module._MAX_GAPS
    assert worker_.journal._gaps[-1].last == 999 * 7 - 1
    worker_.monotonic.now += module._GAP_LIFE
    worker_.journal._note_read([])
    assert worker_.journal._gaps == ()


def test_many_rows_are_read_in_slices(worker: Start) -> None:
    """However many rows are new, other requests have their turn after every few of them."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(one("first")))
    with sqlite3.connect(first.file) as connection:
        rows = [(f"row {number}", NOON + 1800, NOON + 1800) for number in range(5000)]
        connection.executemany(
            "INSERT INTO revocations (kind, value, moment, until) VALUES ('id', ?, ?, ?)", rows
        )
    connection.close()
    sizes: list[int] = []
    note = second.journal._note_read

    def noting(read: list[int]) -> None:
        sizes.append(len(read))
        note(read)

    second.journal._note_read = noting  # type: ignore[method-assign]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        beside = asyncio.create_task(others())
        await second.journal.catch_up()
        beside.cancel()

    second.run(main())
    assert max(sizes) == module._SLICE
    assert sum(sizes) == 5001
    assert turns > len(sizes)
    assert is_revoked(second, "row 4999")


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
    """Rows that make no difference any more are removed without any login; numbers are not used again."""
    kept.run(kept.journal.revoke(one("one", NOON + 60)))
    kept.run(kept.journal.revoke(one("two", NOON + MARGIN + 3 * HOUR)))
    kept.run(kept.journal.revoke(one("three", NOON + 60)))
    kept.wait(MARGIN)
    kept.run(kept.pruning.prune())
    assert rows(kept) == [1, 2, 3]
    kept.wait(2 * HOUR)
    kept.run(kept.pruning.prune())
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


# Taking back


def test_it_is_taken_back_everywhere(worker: Start) -> None:
    """What was a mistake is undone: here, in the other workers, and after a restart."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(one("other")))
    first.run(first.journal.revoke(of_all(NOON + 5)))
    second.run(second.journal.catch_up())
    assert is_revoked(second)
    [_, entry] = first.run(first.journal.entries())
    assert entry.revocation == of_all(NOON + 5)
    assert first.run(first.journal.take_back(entry.id))
    assert not first.run(first.journal.take_back(entry.id))
    second.run(second.journal.catch_up())
    restarted = worker()
    restarted.run(restarted.journal.catch_up())
    for kept in (first, second, restarted):
        assert not is_revoked(kept)
        assert is_revoked(kept, "other")
    assert [one.revocation for one in second.run(second.journal.entries())] == [one("other")]


def test_an_earlier_one_stays_in_force(worker: Start) -> None:
    """Of two revocations of a subject, the one that was not taken back holds."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(of_subject("ann", NOON - 60)))
    first.run(first.journal.revoke(of_subject("ann", NOON + 60)))
    second.run(second.journal.catch_up())
    assert first.run(first.journal.take_back(2))
    second.run(second.journal.catch_up())
    for kept in (first, second):
        assert not is_revoked(kept, issued=NOON)
        assert is_revoked(kept, issued=NOON - 61)


@pytest.mark.parametrize("number", [0, 2, 99])
def test_what_cannot_be_taken_back(worker: Start, number: int) -> None:
    """There is nothing of that number."""
    kept = worker()
    assert not kept.run(kept.journal.take_back(number))
    kept.run(kept.journal.revoke(one()))
    assert not kept.run(kept.journal.take_back(number))
    assert is_revoked(kept)


def opaque(name: str) -> Verified:
    """A token that does not say when it was issued."""
    return Verified(Principal("ann"), NOON + 1800, None, name)


def test_a_token_without_iat_stays_revoked(worker: Start) -> None:
    """Who saw it before the revocation tells the others, and those who start later; the undo ends that too."""
    first, second = worker(), worker()
    second.memory.note(opaque("old"), lambda: "")
    second.clock.now += 10
    first.run(first.journal.revoke(of_all(second.clock.now)))
    for kept in (second, first):
        kept.run(kept.journal.catch_up())
    restarted = worker()
    restarted.run(restarted.journal.catch_up())
    for kept in (first, second, restarted):
        for name in ("old", "new"):
            kept.memory.note(opaque(name), lambda: "")
        assert kept.memory.revoked(opaque("old"), lambda: "")
        assert not kept.memory.revoked(opaque("new"), lambda: "")
    assert first.run(first.journal.take_back(1))
    for kept in (first, second, restarted):
        kept.run(kept.journal.catch_up())
        assert not kept.memory.revoked(opaque("old"), lambda: "")
