"""The stores of one worker over a database in a folder, with hashes that cost nothing and a clock that is set."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import event

from propylon.stores.database import Database
from propylon.stores.grants import Grants
from propylon.stores.journal import RevocationJournal
from propylon.stores.memory import MemoryRevocations
from propylon.stores.passwords import Cost, Passwords
from propylon.stores.prune import Pruning
from propylon.stores.users import User, Users

T = TypeVar("T")

CHEAP = Cost(time=1, memory=8, lanes=1)
PASSWORD = "correct horse"
NOON = 1_800_000_000.0
HOUR = 3600.0
NUMBERS = itertools.count(1)


class Clock:
    """A wall clock that goes when it is told to."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now


def hasty(database: Database) -> Database:
    """Have it not wait for the disk: a test survives no power cut anyway."""

    @event.listens_for(database._engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    return database


class Counting(Passwords):
    """Counts how often the hash is computed."""

    def __init__(self, cost: Cost = CHEAP, **options: int) -> None:
        super().__init__(cost, **options)
        self.verified = 0
        (hasher,) = self._hash.hashers
        inner = hasher.verify

        def counted(password: str | bytes, known: str | bytes) -> bool:
            self.verified += 1
            return inner(password, known)

        hasher.verify = counted  # type: ignore[method-assign]


class Kept:
    """Everything that one worker keeps."""

    def __init__(
        self,
        folder: Path,
        runner: asyncio.Runner,
        clock: Clock,
        *,
        cost: Cost = CHEAP,
        url: str = "",
    ) -> None:
        self.file = folder / "propylon.db"
        self.runner = runner
        self.clock = clock
        self.monotonic = Clock(0.0)
        self.database = Database(url) if url else hasty(Database(f"sqlite:///{self.file}"))
        self.passwords = Counting(cost)
        self.memory = MemoryRevocations(clock, longest=HOUR)
        self.journal = RevocationJournal(
            self.database, self.memory, clock, monotonic=self.monotonic
        )
        self.users = Users(self.database, self.passwords, clock, self.journal)
        self.pruning = Pruning(self.database, self.memory, clock, self.monotonic)
        self.grants = Grants(
            self.database,
            self.journal,
            expires=24 * HOUR,
            clock=clock,
            secret=lambda size: next(NUMBERS).to_bytes(size),
        )

    def run(self, awaitable: Coroutine[Any, Any, T]) -> T:
        """Run something to its end, on the one loop."""
        return self.runner.run(awaitable)

    def together(self, *awaitables: Awaitable[T]) -> list[T | BaseException]:
        """Run several things at the same time; return what each came to."""

        async def main() -> list[T | BaseException]:
            return await asyncio.gather(*awaitables, return_exceptions=True)

        return self.run(main())

    def wait(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.clock.now += seconds
        self.monotonic.now += seconds

    def add(self, name: str = "ann", **fields: Any) -> User:
        """Add a user with PASSWORD."""
        words = {key: frozenset(fields.pop(key, "").split()) for key in ("scopes", "roles")}
        user = User(name, **words, **fields)
        self.run(self.users.add(user, PASSWORD))
        return user

    def close(self) -> None:
        """Close what is open."""
        self.run(self.database.close())
        self.passwords.close()
