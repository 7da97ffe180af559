"""Store revocations in the database, so that all workers learn of them and a restart keeps them.

The hot path asks only `memory`. Each worker reads the new rows once a second and applies them there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from propylon.proxy.authenticate.revocation import Kind, Revocation, caller_value
from propylon.stores import tables
from propylon.stores.database import Database
from propylon.stores.memory import MemoryRevocations

__all__ = ["RevocationJournal"]

# An id is assigned before its row is visible, and a row with a higher id may be visible first. A worker that reads
# on from the highest id would miss the lower one. So it asks again for the missing ids among the last ones, until
# they are there. Ids that never appear belong to transactions that were rolled back.
_GAP_WINDOW = 64
_KINDS = frozenset(kind.value for kind in Kind)

log = logging.getLogger(__name__)


def _tell_none() -> None:
    """A command has no other workers."""


class RevocationJournal:
    """The revocations in the database, and the part of them that is in force in this worker (`memory`)."""

    def __init__(
        self,
        database: Database,
        memory: MemoryRevocations,
        clock: Callable[[], float],
        announce: Callable[[], None] = _tell_none,
    ) -> None:
        """Start with nothing read; `clock` returns seconds since 1970. `announce` is called when there are new rows."""
        self._database = database
        self._memory = memory
        self._clock = clock
        self._announce = announce
        # The issuer that the gateway's own tokens name; logins are its own. Empty: they name none.
        self.own_issuer = ""
        self._last_read = 0
        self._gaps: frozenset[int] = frozenset()

    async def catch_up(self) -> None:
        """Apply the revocations that other workers have written since the last call.

        Never creates the database. Raises ServiceUnavailable; what is in force stays in force.
        """
        journal = tables.revocations
        async with self._database.reading() as connection:
            if connection is None:
                return
            newest = await connection.scalar(select(func.max(journal.c.id)))
            if newest is not None and newest < self._last_read:
                # A backup was restored, or the newest rows were pruned: ids are given out again. Read everything.
                self._last_read, self._gaps = 0, frozenset()
            unread = or_(journal.c.id > self._last_read, journal.c.id.in_(self._gaps))
            found = await connection.execute(select(journal).where(unread).order_by(journal.c.id))
            rows = found.all()
        for row in rows:
            self._apply(row.kind, row.value, row.moment)
        self._note_read([row.id for row in rows])

    def _apply(self, kind: object, value: object, moment: object) -> None:
        if not isinstance(value, str) or not isinstance(moment, float):
            # SQLite stores any type in any column. One bad row must not keep the others from being applied.
            log.error("the database holds a malformed revocation, which is ignored")
        elif isinstance(kind, str) and kind in _KINDS:
            self._memory.apply(Revocation(Kind(kind), value, moment))
        else:  # written by a newer version, during a rolling update
            log.error("a revocation of a kind that this version does not know: %s", kind)

    def _note_read(self, read: list[int]) -> None:
        """Note the highest id that was read, and the ids before it that were missing."""
        last = max(read, default=self._last_read)
        unseen = range(max(self._last_read + 1, last - _GAP_WINDOW), last)
        kept = (number for number in (*self._gaps, *unseen) if number > last - _GAP_WINDOW)
        self._gaps = frozenset(kept) - frozenset(read)
        self._last_read = max(last, self._last_read)

    async def revoke(self, revocation: Revocation) -> None:
        """Revoke tokens: in this worker at once, in the others with their next `catch_up`.

        Raises ServiceUnavailable if the database did not store it. It is in force in this worker all the same.
        """
        self._memory.apply(revocation)
        async with self._database.writing() as connection:
            await self.write(connection, (revocation,))
        self._announce()

    async def since(self, subject: str, issuer: str = "") -> float:
        """Return the moment before which no token of this issuer's subject is valid; -inf if there is none."""
        await self.catch_up()
        return await self._memory.since(subject, issuer)

    async def write(self, connection: AsyncConnection, revocations: Iterable[Revocation]) -> None:
        """Write revocations within the caller's transaction; the caller calls `apply` after its commit."""
        for revocation in revocations:
            await connection.execute(insert(tables.revocations).values(self._values(revocation)))
            await _end_logins(connection, revocation, self.own_issuer)

    def apply(self, revocations: Iterable[Revocation]) -> None:
        """Put revocations that were written into force in this worker, and tell the others that there are new rows."""
        for revocation in revocations:
            self._memory.apply(revocation)
        self._announce()

    async def prune(self, connection: AsyncConnection) -> None:
        """Delete the revocations whose tokens have all expired."""
        journal = tables.revocations
        await connection.execute(delete(journal).where(journal.c.until < self._clock()))

    def _values(self, revocation: Revocation) -> dict[str, object]:
        return {
            "kind": revocation.kind.value,
            "value": revocation.value,
            "moment": revocation.moment,
            "until": self._memory.until(revocation),
        }


async def _end_logins(connection: AsyncConnection, revocation: Revocation, own_issuer: str) -> None:
    """Delete the families of refresh tokens that a revocation covers, which would get new access tokens.

    The time of the login decides: a login before the revocation is revoked with all that came of it.
    """
    families = tables.families
    older = families.c.begun < revocation.moment
    if revocation.kind is Kind.SUBJECT:
        theirs = families.c.subject == revocation.value
        await connection.execute(delete(families).where(older & theirs))
    elif revocation.kind is Kind.CALLER:
        subject = revocation.value.partition("\n")[0]
        if revocation.value == caller_value(subject, own_issuer):
            await connection.execute(
                delete(families).where(older & (families.c.subject == subject))
            )
    elif revocation.kind is Kind.ALL:
        await connection.execute(delete(families).where(older))
