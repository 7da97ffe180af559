"""Write revocations down: all workers learn of them, and a restart does not forget them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from propylon.proxy.authenticate.revocation import Kind, Revocation
from propylon.stores import tables
from propylon.stores.database import Database
from propylon.stores.memory import MemoryRevocations

__all__ = ["RevocationJournal"]

# A number is given out before its row can be seen, and a later one may be seen first: whoever reads on from
# the last one would miss it. Missing numbers among the last ones are asked for until they turn up; those that
# never do belong to transactions that failed.
_GAPS = 64
_KINDS = frozenset(kind.value for kind in Kind)

log = logging.getLogger(__name__)


def _tell_none() -> None:
    """A command has no other workers."""


class RevocationJournal:
    """What is known here (`memory`, asked by the hot path) and what all workers know (the database)."""

    def __init__(
        self,
        database: Database,
        memory: MemoryRevocations,
        clock: Callable[[], float],
        announce: Callable[[], None] = _tell_none,
    ) -> None:
        """Begin with nothing known; `clock` is the wall's. `announce` is called when there are new rows."""
        self._database = database
        self._memory = memory
        self._clock = clock
        self._announce = announce
        self._last = 0
        self._missing: frozenset[int] = frozenset()

    async def catch_up(self) -> None:
        """Take into force what others wrote since the last time. Raises ServiceUnavailable.

        Never creates the database. What is known stays in force, whatever happens.
        """
        journal = tables.revocations
        async with self._database.reading() as connection:
            if connection is None:
                return
            newest = await connection.scalar(select(func.max(journal.c.id)))
            if newest is not None and newest < self._last:
                # A backup was restored under us, or the last ones were pruned: numbers are given out again.
                self._last, self._missing = 0, frozenset()
            news = or_(journal.c.id > self._last, journal.c.id.in_(self._missing))
            found = await connection.execute(select(journal).where(news).order_by(journal.c.id))
            rows = found.all()
        for row in rows:
            self._apply(row.kind, row.value, row.moment)
        self._note([row.id for row in rows])

    def _apply(self, kind: object, value: object, moment: object) -> None:
        if not isinstance(value, str) or not isinstance(moment, float):
            # SQLite keeps whatever it is given: one row must not keep the others from being read.
            log.error("a revocation that makes no sense is in the database")
        elif isinstance(kind, str) and kind in _KINDS:
            self._memory.apply(Revocation(Kind(kind), value, moment))
        else:  # a newer version wrote it, beside which this one still runs
            log.error("a revocation of a kind that this version does not know: %s", kind)

    def _note(self, read: list[int]) -> None:
        """Remember how far we have read, and which numbers before that we have not seen."""
        last = max(read, default=self._last)
        among = range(max(self._last + 1, last - _GAPS), last)
        kept = (number for number in (*self._missing, *among) if number > last - _GAPS)
        self._missing = frozenset(kept) - frozenset(read)
        self._last = max(last, self._last)

    async def revoke(self, revocation: Revocation) -> None:
        """Take tokens back, in force here at once and everywhere with the next `catch_up`.

        Raises ServiceUnavailable if it could not be written down.
        """
        self._memory.apply(revocation)
        async with self._database.writing() as connection:
            await self.write(connection, (revocation,))
        self._announce()

    async def since(self, subject: str) -> float:
        """Return the moment before which no token of the subject counts; -inf if all do."""
        await self.catch_up()
        return await self._memory.since(subject)

    async def write(self, connection: AsyncConnection, revocations: Iterable[Revocation]) -> None:
        """Write them down in a transaction of somebody else's, who applies them when it is through."""
        for revocation in revocations:
            await connection.execute(insert(tables.revocations).values(self._values(revocation)))
            await _end_logins(connection, revocation)

    def apply(self, revocations: Iterable[Revocation]) -> None:
        """Take into force here what was written, and tell the others that it is there to be read."""
        for revocation in revocations:
            self._memory.apply(revocation)
        self._announce()

    async def prune(self, connection: AsyncConnection) -> None:
        """Remove what makes no difference any more."""
        journal = tables.revocations
        await connection.execute(delete(journal).where(journal.c.until < self._clock()))

    def _values(self, revocation: Revocation) -> dict[str, object]:
        return {
            "kind": revocation.kind.value,
            "value": revocation.value,
            "moment": revocation.moment,
            "until": self._memory.until(revocation),
        }


async def _end_logins(connection: AsyncConnection, revocation: Revocation) -> None:
    """Delete the refresh tokens that are meant too: else they would get new access tokens.

    What counts is when the login was: what came of a token that is taken back is taken back with it.
    """
    families = tables.families
    older = families.c.begun < revocation.moment
    if revocation.kind is Kind.SUBJECT:
        theirs = families.c.subject == revocation.value
        await connection.execute(delete(families).where(older & theirs))
    elif revocation.kind is Kind.ALL:
        await connection.execute(delete(families).where(older))
