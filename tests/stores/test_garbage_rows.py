"""Rows of the journal that make no sense are passed over, with a word in the log."""

from typing import Any

import pytest

from propylon.proxy.authenticate.revocation import Kind, Revocation
from tests.stores.conftest import kept, worker  # noqa: F401
from tests.stores.test_journal_rows import SOON, Start, complaints, put, revoked, two


@pytest.mark.parametrize(
    "row",
    [
        ("id", "x", "soon", SOON),
        ("id", "x", b"\xff", SOON),
        ("id", b"\xff\xfe", SOON, SOON),
        ("subject", b"\xff\xfe", SOON, SOON),
        ("all", "", "now", SOON),
    ],
    ids=str,
)
def test_garbage(row: Any, worker: Start, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811
    """What was written after it is in force."""
    first, second = two(worker)
    put(first, row)
    first.run(first.journal.revoke(Revocation(Kind.ID, "after", SOON)))
    for _ in range(3):
        second.run(second.journal.catch_up())
    assert [revoked(second, name) for name in ("before", "after")] == [True, True]
    assert len(complaints(caplog)) == 1
