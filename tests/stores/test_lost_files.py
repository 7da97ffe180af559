"""A database file that is emptied, replaced or deleted while the gateway runs: noticed and said, never taken for empty."""

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation
from propylon.proxy.principal import Principal
from propylon.stores.users import User
from tests.stores.kept import NOON, PASSWORD, Kept

Start = Callable[[], Kept]


@pytest.fixture
def lived_in(kept: Kept) -> Kept:
    """A worker that knows a user and a revoked token."""
    kept.add("ann")
    kept.run(kept.journal.revoke(Revocation(Kind.ID, "one", NOON + 1800)))
    kept.run(kept.journal.catch_up())
    return kept


def is_revoked(kept: Kept, token_id: str = "one") -> bool:
    """What the hot path says."""
    verified = Verified(Principal("ann"), NOON + 1800, NOON, token_id)
    return kept.memory.revoked(verified, lambda: "")


def delete(file: Path) -> None:
    """Delete it, with what SQLite writes beside it."""
    for name in ("", "-wal", "-shm"):
        file.with_name(file.name + name).unlink(missing_ok=True)


def empty(file: Path) -> None:
    """Truncate it."""
    delete_others = [file.with_name(file.name + name) for name in ("-wal", "-shm")]
    for other in delete_others:
        other.unlink(missing_ok=True)
    file.write_bytes(b"")


def put_another(file: Path) -> None:
    """Put a database of another program in its place."""
    delete(file)
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (delete, "was deleted while the gateway runs"),
        (empty, "was emptied while the gateway runs"),
        (put_another, "has none of the gateway's tables any more"),
    ],
)
def test_it_is_lost(lived_in: Kept, spoil: Callable[[Path], None], said: str) -> None:
    """Reading and writing say so; what is known stays in force; nothing is created in its place."""
    spoil(lived_in.file)
    for work in (
        lived_in.journal.catch_up(),
        lived_in.users.authenticate("ann", PASSWORD),
        lived_in.users.add(User("bob"), PASSWORD),
    ):
        with pytest.raises(ServiceUnavailable) as caught:
            lived_in.run(work)
        assert f"{lived_in.file} {said}" in caught.value.reason
    assert is_revoked(lived_in)
    if spoil is delete:
        assert not lived_in.file.exists()


def test_it_is_put_back(lived_in: Kept, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A backup in its place is read from its beginning, and the log says that the file was replaced."""
    caplog.set_level(logging.WARNING)
    backup = tmp_path / "backup.db"
    with sqlite3.connect(lived_in.file) as source, sqlite3.connect(backup) as target:
        source.backup(target)
        target.execute("DELETE FROM revocations")
        row = ("from the backup", NOON + 1800, NOON + 1800)
        target.execute("INSERT INTO revocations VALUES (1, 'id', ?, ?, ?)", row)
        target.commit()
    source.close()
    target.close()
    delete(lived_in.file)
    backup.rename(lived_in.file)
    lived_in.run(lived_in.journal.catch_up())
    assert is_revoked(lived_in)
    assert is_revoked(lived_in, "from the backup")
    assert lived_in.run(lived_in.users.find("ann")) == User("ann")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"the database {lived_in.file} was replaced while the gateway runs: it is read anew"
    ]


def test_a_restart_begins_anew(lived_in: Kept, worker: Start) -> None:
    """After a deletion the operator may want an empty one: a new process has nothing to miss."""
    delete(lived_in.file)
    restarted = worker()
    restarted.run(restarted.journal.catch_up())
    restarted.add("bob")
    assert restarted.run(restarted.users.find("bob")) is not None
