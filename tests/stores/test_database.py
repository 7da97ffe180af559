"""The border to SQL: which URLs do, who creates the schema, what becomes of foreign errors."""

import asyncio
import multiprocessing
import multiprocessing.synchronize
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from propylon.errors import ServiceUnavailable
from propylon.stores import database as module
from propylon.stores.database import CannotUseDatabase, Database
from propylon.stores.urls import read_url
from propylon.stores.users import User, Users
from tests.stores.kept import PASSWORD, Counting, Kept


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "is not of the form"),
        ("", "is not of the form"),
        ("mysql://host/name", 'no database of the kind "mysql"'),
        ("sqlite+pysqlite:///a.db", 'no database of the kind "sqlite+pysqlite"'),
        ("sqlite://", "a database in memory is lost"),
        ("sqlite:///:memory:", "a database in memory is lost"),
        ("sqlite:///file:a?mode=memory&uri=true", "a database in memory is lost"),
    ],
)
def test_urls_that_will_not_do(url: str, said: str) -> None:
    """Each is refused at once, in one sentence that says what to write."""
    with pytest.raises(CannotUseDatabase, match=re.escape(said)):
        Database(url)


def test_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL without its driver: the message says what to install, and not the URL's password."""

    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")

    monkeypatch.setattr(module, "create_async_engine", missing)
    with pytest.raises(CannotUseDatabase) as caught:
        Database("postgresql://ann:s3cret@localhost/name")
    assert str(caught.value) == "postgresql needs asyncpg: pip install 'propylon[postgres]'"


def test_it_has_a_name(tmp_path: Path) -> None:
    """The whole path of a file, so that nobody looks in another folder; a URL without its password."""
    assert Database("sqlite:///a.db").name == str(Path("a.db").absolute())
    assert Database(f"sqlite:///{tmp_path}/a.db").name == f"{tmp_path}/a.db"
    url = "postgresql://ann:s3cret@host/name?sslmode=require&password=s3cret"
    assert read_url(url).name == "postgresql://ann:***@host/name?sslmode=require"


def test_reading_creates_nothing(kept: Kept) -> None:
    """Whoever only looks leaves no file behind, and finds nobody."""
    assert kept.run(kept.users.find("ann")) is None
    assert kept.run(kept.users.authenticate("ann", PASSWORD)) is None
    assert kept.run(kept.users.all()) == []
    assert kept.run(kept.grants.find("0" * 96)) is None
    kept.run(kept.journal.catch_up())
    assert list(kept.file.parent.iterdir()) == []


def test_an_empty_file_is_no_database(kept: Kept) -> None:
    """A file without our tables counts as none, until somebody writes."""
    kept.file.touch()
    kept.run(kept.journal.catch_up())
    assert kept.run(kept.users.all()) == []
    assert kept.file.stat().st_size == 0
    kept.add("ann")
    assert [user.username for user in kept.run(kept.users.all())] == ["ann"]


def test_the_file_is_nobody_elses_to_read(kept: Kept) -> None:
    """It holds hashes: only the owner reads it and what SQLite writes beside it."""
    before = os.umask(0)
    try:
        kept.add("ann")
    finally:
        os.umask(before)
    files = sorted(kept.file.parent.iterdir())
    assert kept.file in files
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}


def test_readers_do_not_wait_for_writers(kept: Kept) -> None:
    """While somebody holds the write lock, users are found; the log is written ahead."""
    kept.add("ann")
    with sqlite3.connect(kept.file, isolation_level=None) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.execute("BEGIN IMMEDIATE")
        found = kept.run(kept.users.find("ann"))
        other.execute("ROLLBACK")
    other.close()
    assert found == User("ann")


def _create(file: Path, name: str, barrier: multiprocessing.synchronize.Barrier) -> None:
    """Be a worker that adds a user as soon as all others are ready."""

    async def main() -> None:
        database, passwords = Database(f"sqlite:///{file}"), Counting()
        users = Users(database, passwords, lambda: 0.0)
        barrier.wait(60)
        await users.add(User(name), PASSWORD)
        await database.close()
        passwords.close()

    asyncio.run(main())


def test_workers_that_create_it_at_once(kept: Kept) -> None:
    """Processes that all find nothing and create everything do not get into each other's way."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    workers = [
        context.Process(target=_create, args=(kept.file, f"user-{number}", barrier))
        for number in range(4)
    ]
    for one in workers:
        one.start()
    for one in workers:
        one.join(60)
    assert [one.exitcode for one in workers] == [0] * 4
    assert len(kept.run(kept.users.all())) == 4


def test_somebody_reads_while_it_is_created(
    worker: Callable[[], Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write-ahead logging waits until nobody else looks at the file."""
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", 0.01)
    kept = worker()
    other = sqlite3.connect(kept.file, isolation_level=None)
    other.execute("CREATE TABLE other (x)")
    other.execute("BEGIN")
    other.execute("SELECT * FROM other").fetchall()

    async def leave() -> None:
        await asyncio.sleep(0.05)
        other.execute("ROLLBACK")

    assert kept.together(kept.users.add(User("ann"), PASSWORD), leave()) == [None, None]
    other.close()
    assert kept.file.with_name("propylon.db-wal").exists()


def test_those_who_wait_for_the_lock_in_one_loop(worker: Callable[[], Kept]) -> None:
    """Writers that begin at the same moment take turns; none is told that the database is locked."""
    first, second = worker(), worker()
    first.add("somebody")
    done = first.together(
        *(
            one.users.add(User(f"user-{number}"), PASSWORD)
            for number, one in enumerate([first, second] * 5)
        )
    )
    assert done == [None] * 10


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda file: file.write_bytes(b"no database" * 100), "file is not a database"),
        (lambda file: file.mkdir(), "Is a directory"),
    ],
)
def test_foreign_errors(kept: Kept, spoil: Callable[[Path], None], reason: str) -> None:
    """A database that cannot be read is a 503 with Retry-After; the log learns why, the client does not."""
    spoil(kept.file)
    with pytest.raises(ServiceUnavailable) as caught:
        kept.run(kept.users.find("ann"))
    assert reason in caught.value.reason
    assert caught.value.headers == ((b"Retry-After", b"5"),)
    assert "database" not in caught.value.message


def test_a_folder_that_is_not_there(tmp_path: Path, kept: Kept) -> None:
    """Nothing can be created: a 503, whose reason says so."""
    database = Database(f"sqlite:///{tmp_path}/nowhere/propylon.db")
    users = Users(database, kept.passwords, kept.clock)
    with pytest.raises(ServiceUnavailable) as caught:
        kept.run(users.add(User("ann"), PASSWORD))
    kept.run(database.close())
    assert "No such file or directory" in caught.value.reason


def test_nobody_waits_for_ever(worker: Callable[[], Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer is a 503 as well."""
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", 0.2)
    kept = worker()
    kept.add("ann")
    with sqlite3.connect(kept.file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with monkeypatch.context() as patch, pytest.raises(ServiceUnavailable) as caught:
            patch.setattr(module, "_REQUEST_TIMEOUT", 0.05)
            kept.run(kept.users.disable("ann"))
        other.execute("ROLLBACK")
    other.close()
    assert "TimeoutError" in caught.value.reason
    assert kept.run(kept.users.find("ann")) == User("ann")


def test_a_failed_transaction_leaves_nothing(kept: Kept) -> None:
    """What was written before the failure is taken back, and the lock is free again."""
    kept.add("ann")

    async def half() -> None:
        async with kept.database.writing() as connection:
            await connection.exec_driver_sql("DELETE FROM users")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kept.run(half())
    assert kept.run(kept.users.find("ann")) == User("ann")
    kept.run(kept.users.disable("ann"))


def test_secrets_stay_out_of_the_reason(kept: Kept) -> None:
    """What was to be written is not in the reason: it would hold hashes."""
    kept.add("ann")

    async def wrong() -> None:
        async with kept.database.writing() as connection:
            await connection.exec_driver_sql("INSERT INTO nowhere VALUES (?)", ("s3cret",))

    with pytest.raises(ServiceUnavailable) as caught:
        kept.run(wrong())
    assert "no such table" in caught.value.reason
    assert "s3cret" not in caught.value.reason + str(caught.value.__cause__)
