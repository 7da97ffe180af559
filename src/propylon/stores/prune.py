"""Delete what expired long ago: logins, tokens and revocations, whether users log in or not.

It happens once an hour, a few rows at a time, and only while the wall clock agrees with the monotonic one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sqlalchemy import Column, Table, delete, select

from propylon.stores import tables
from propylon.stores.clocks import MARGIN, ClockWatch
from propylon.stores.database import Database
from propylon.stores.memory import MemoryRevocations

__all__ = ["Pruning"]

# Seconds. The first is how long a process has run before it deletes anything: a machine may start with a wrong clock,
# and NTP sets it within minutes.
_FIRST = 600.0
_EVERY = 3600.0
# Rows of one transaction: a writer of SQLite waits for a few milliseconds.
_BATCH = 500
# Which rows of which table have expired.
_EXPIRIES: Sequence[tuple[Table, Column[float]]] = (
    (tables.families, tables.families.c.expires),
    (tables.refresh_tokens, tables.refresh_tokens.c.expires),
    (tables.access_tokens, tables.access_tokens.c.expires),
    (tables.causes, tables.causes.c.until),
    (tables.revocations, tables.revocations.c.until),
)


class Pruning:
    """Deletes expired facts from the database and from memory."""

    def __init__(
        self,
        database: Database,
        memory: MemoryRevocations,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`clock` returns seconds since 1970, `monotonic` seconds that pass."""
        self._database = database
        self._memory = memory
        self._clock = clock
        self._monotonic = monotonic
        self._watch = ClockWatch(clock, monotonic)
        self._begins = self._due = monotonic() + _FIRST

    async def prune(self) -> None:
        """Delete what is due; called once a second. Never creates a database. Raises ServiceUnavailable."""
        if not self._watch.agrees() or self._monotonic() < self._begins:
            return
        self._memory.drop_expired()
        if self._monotonic() >= self._due:
            # Set first: a database that fails is asked again in an hour, not in a second.
            self._due = self._monotonic() + _EVERY
            await self._prune_database()

    async def _prune_database(self) -> None:
        async with self._database.reading() as connection:
            if connection is None:
                return
        before = self._clock() - MARGIN
        for table, expires in _EXPIRIES:
            # The clock may be set while rows are deleted.
            more = True
            while more and self._watch.agrees():
                more = await self._delete_some(table, expires, before)
                await asyncio.sleep(0)  # other requests have their turn between two batches

    async def _delete_some(self, table: Table, expires: Column[float], before: float) -> bool:
        """Delete a batch of rows; tell whether there may be more."""
        (key,) = table.primary_key.columns
        batch = select(key).where(expires < before).limit(_BATCH)
        async with self._database.writing() as connection:
            done = await connection.execute(delete(table).where(key.in_(batch)))
        return done.rowcount == _BATCH
