"""Rows of the journal that this version did not write: newer ones, and such as make no sense."""

import logging
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation
from propylon.proxy.principal import Principal
from propylon.stores import journal as module
from tests.stores.kept import NOON, Kept

Start = Callable[[], Kept]
SOON = NOON + 1800


def put(kept: Kept, *rows: tuple[Any, ...]) -> None:
    """Write rows as something else does that shares the database."""
    with sqlite3.connect(kept.file) as connection:
        connection.executemany(
            "INSERT INTO revocations (kind, value, moment, until) VALUES (?, ?, ?, ?)", rows
        )
    connection.close()


def revoked(kept: Kept, token_id: str) -> bool:
    """What the hot path says of a token."""
    verified = Verified(Principal("ann"), SOON, NOON, token_id)
    return kept.memory.revoked(verified, lambda: "sha256:1")


def two(worker: Start) -> tuple[Kept, Kept]:
    """A worker that has written something, and one that has read nothing."""
    first, second = worker(), worker()
    first.run(first.journal.revoke(Revocation(Kind.ID, "before", SOON)))
    return first, second


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of rows."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == module.__name__ and record.levelno >= logging.ERROR
    ]


UNKNOWN = ["device", "ID", "Subject", "", " id", "id\x00", "x" * 16, "ünknown", "%s %d"]


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_kind_that_is_not_known(
    kind: str, worker: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, once; what was written after it is in force, now and from now on."""
    first, second = two(worker)
    put(first, (kind, "ann", SOON, SOON))
    first.run(first.journal.revoke(Revocation(Kind.ID, "after", SOON)))
    for _ in range(3):
        second.run(second.journal.catch_up())
    assert [revoked(second, name) for name in ("before", "after", "ann")] == [True, True, False]
    [complaint] = complaints(caplog)
    assert kind in complaint
    assert "ann" not in complaint  # whose it is, is for nobody who reads logs
    first.run(first.journal.revoke(Revocation(Kind.ID, "later", SOON)))
    second.run(second.journal.catch_up())
    assert revoked(second, "later")
    assert len(complaints(caplog)) == 1


def test_many_kinds_that_are_not_known(worker: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A newer version that runs beside this one for a while hides nothing of what both know."""
    first, second = two(worker)
    for number in range(80):
        put(first, ("device", f"{number}", SOON, SOON), ("id", f"token {number}", SOON, SOON))
        if number % 20 == 0:
            second.run(second.journal.catch_up())
    second.run(second.journal.catch_up())
    assert all(revoked(second, f"token {number}") for number in range(80))
    assert len(complaints(caplog)) == 80


def test_a_kind_that_is_not_known_among_the_missing(
    worker: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """One whose number was given out before, and which is seen only now, is passed over as well."""
    first, second = two(worker)
    with sqlite3.connect(first.file) as connection:
        connection.execute("INSERT INTO revocations VALUES (4, 'id', 'four', ?, ?)", (SOON, SOON))
    connection.close()
    second.run(second.journal.catch_up())
    with sqlite3.connect(first.file) as connection:
        connection.execute(
            "INSERT INTO revocations VALUES (2, 'device', 'two', ?, ?)", (SOON, SOON)
        )
        connection.execute("INSERT INTO revocations VALUES (3, 'id', 'three', ?, ?)", (SOON, SOON))
    connection.close()
    second.run(second.journal.catch_up())
    assert [revoked(second, name) for name in ("three", "four")] == [True, True]
    assert len(complaints(caplog)) == 1
    assert second.journal._gaps == ()


def test_it_is_passed_over_after_a_restart_too(
    worker: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Each process says it once."""
    first, _ = two(worker)
    put(first, ("device", "ann", SOON, SOON), ("id", "after", SOON, SOON))
    for number in range(1, 4):
        restarted = worker()
        restarted.run(restarted.journal.catch_up())
        assert revoked(restarted, "after")
        assert len(complaints(caplog)) == number


def test_logins_do_not_wait_for_it(worker: Start) -> None:
    """Whoever issues a token reads the journal first, and is not kept from it."""
    first, second = two(worker)
    put(first, ("device", "ann", SOON, SOON), ("subject", "ann", NOON, SOON))
    assert second.run(second.journal.since("ann")) == NOON
    first.run(first.grants.begin("ann", frozenset(), "a", SOON))


FINE_OTHERWISE: list[tuple[str, float]] = [
    ("id", 0.0),
    ("id", -1e300),
    ("id", 1e300),
    ("id", float("inf")),
    ("subject", float("inf")),
    ("all", -1e300),
    ("digest", 1e308),
]


@pytest.mark.parametrize(("kind", "moment"), FINE_OTHERWISE)
def test_moments_that_no_clock_shows(kind: str, moment: float, worker: Start) -> None:
    """Long ago, never, or after the end of all times: they are numbers, and stop nobody."""
    first, second = two(worker)
    put(
        first, (kind, "ann's" if kind != "all" else "", moment, moment), ("id", "after", SOON, SOON)
    )
    second.run(second.journal.catch_up())
    second.run(second.journal.catch_up())
    assert revoked(second, "before")
    assert revoked(second, "after")
    first.run(first.grants.begin("ann", frozenset(), "a", SOON))


@pytest.mark.parametrize("value", ["", "x" * 10_000, "\x00", "'; DROP TABLE revocations; --"])
def test_values_that_are_nobodys(value: str, worker: Start) -> None:
    """They mean nothing, or just what they say."""
    first, second = two(worker)
    put(first, *((kind, value, SOON, SOON) for kind in ("id", "digest")))
    put(first, ("id", "after", SOON, SOON))
    second.run(second.journal.catch_up())
    assert [revoked(second, name) for name in ("before", "after", "other")] == [True, True, False]
    assert revoked(second, value)
