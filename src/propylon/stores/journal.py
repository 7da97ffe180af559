"""Store revocations in the database, so that all workers learn of them and a restart keeps them.

The hot path asks only `memory`. Each worker reads the new rows once a second and applies them there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from propylon.proxy.authenticate.revocation import Kind, Revocation, caller_value
from propylon.stores import tables
from propylon.stores.clocks import elapsed
from propylon.stores.database import Database
from propylon.stores.memory import MemoryRevocations

__all__ = ["Entry", "RevocationJournal"]

# Facts:
# - An id is assigned before its row is visible, and a row with a higher id may be visible first (PostgreSQL). A worker
#   that reads on from the highest id would miss the lower one. So it asks again for the ids that were missing.
# - Ids that never appear belong to transactions that were rolled back. A transaction of ours ends within ten seconds.
# - Taking a revocation back is a row, too: a worker that reads on from the last id sees no row that is gone.

# Seconds for which a missing id is asked for: sixty times as long as a transaction of ours may take.
_GAP_LIFE = 600.0
# Ranges of missing ids that are asked for at once, the highest ones: an id that is still to come is among the latest.
_MAX_GAPS = 200
# Rows that are read at once: applying them takes two or three milliseconds, for which the loop stands still.
_SLICE = 200
_UNDONE = "undo"
# Seconds for which a row that takes back is kept: a worker that is away for longer goes on refusing.
_UNDO_LIFE = 30 * 86400.0
_KINDS = frozenset(kind.value for kind in Kind)

log = logging.getLogger(__name__)


def _tell_none() -> None:
    """A command has no other workers."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A revocation in the database, and until when it is needed."""

    id: int
    revocation: Revocation
    until: float


@dataclass(frozen=True, slots=True)
class _Gap:
    """Ids that were missing when a later one was read."""

    first: int
    last: int
    noted: float  # on the monotonic clock: a wall clock that is set would end the search too early


class RevocationJournal:
    """The revocations in the database, and the part of them that is in force in this worker (`memory`)."""

    def __init__(
        self,
        database: Database,
        memory: MemoryRevocations,
        clock: Callable[[], float],
        announce: Callable[[], None] = _tell_none,
        *,
        monotonic: Callable[[], float] = elapsed,
    ) -> None:
        """Start with nothing read; `clock` returns seconds since 1970, `monotonic` seconds that pass.

        `announce` is called when there are new rows.
        """
        self._database = database
        self._memory = memory
        self._clock = clock
        self._announce = announce
        self._monotonic = monotonic
        self._generation = database.generation
        # The issuer that the gateway's own tokens name; logins are its own. Empty: they name none.
        self.own_issuer = ""
        self._last_read = 0
        self._gaps: tuple[_Gap, ...] = ()

    async def catch_up(self) -> None:
        """Apply the revocations that other workers have written since the last call.

        Never creates the database. Raises ServiceUnavailable; what is in force stays in force.
        """
        # Two calls may run at once: reading a row twice changes nothing.
        more = await self._read_slice(first=True)
        while more:
            await asyncio.sleep(0)  # other requests have their turn between two slices
            more = await self._read_slice()

    async def _check_place(self, connection: AsyncConnection) -> None:
        """Begin anew if the journal is not the one that was read so far."""
        newest = await connection.scalar(select(func.max(tables.revocations.c.id)))
        # A backup was restored, the newest rows were pruned, or the file was replaced: ids are given out again.
        restored = newest is not None and newest < self._last_read
        if restored or self._generation != self._database.generation:
            self._last_read, self._gaps = 0, ()
        self._generation = self._database.generation

    async def _read_slice(self, *, first: bool = False) -> bool:
        """Apply the next rows; tell whether there may be more.

        The first look at the journal and the first rows are one transaction: each worker makes it once a second.
        """
        journal = tables.revocations
        async with self._database.reading() as connection:
            if connection is None:
                return False
            if first:
                await self._check_place(connection)
            found = await connection.execute(
                select(journal).where(self._unread()).order_by(journal.c.id).limit(_SLICE)
            )
            rows = found.all()
            applied = [await self._apply(connection, row) for row in rows]
        for row, revocation in zip(rows, applied, strict=True):
            if revocation is not None:
                await self._spread(row.id, revocation)
        self._note_read([row.id for row in rows])
        return len(rows) == _SLICE

    def _unread(self) -> ColumnElement[bool]:
        number = tables.revocations.c.id
        gaps = [and_(number >= gap.first, number <= gap.last) for gap in self._gaps]
        return or_(number > self._last_read, *gaps)

    async def _apply(self, connection: AsyncConnection, row: Row[Any]) -> Revocation | None:
        """Put the revocation in a row into force, and return it; or take one back."""
        if row.kind == _UNDONE:
            await self._follow_undo(connection, row)
            return None
        revocation = _read(row)
        if revocation is not None:
            self._memory.apply(revocation)
        return revocation

    async def _follow_undo(self, connection: AsyncConnection, row: Row[Any]) -> None:
        """Take a revocation back; others of the same tokens stay in force."""
        kind, _, value = str(row.value).partition(" ")
        if kind not in _KINDS:
            return
        self._memory.take_back(Kind(kind), value)
        journal = tables.revocations
        same = (journal.c.kind == kind) & (journal.c.value == value)
        found = await connection.execute(select(journal).where(same))
        for other in found:
            if (revocation := _read(other)) is not None:
                self._memory.apply(revocation)

    async def _spread(self, cause: int, revocation: Revocation) -> None:
        """Write down the single tokens that a revocation of many covers, and that only this worker can tell."""
        covered = self._memory.covered(revocation)
        unknown = [one for one in covered if self._memory.is_news(one)]
        if unknown:
            async with self._database.writing() as connection:
                await self._write_covered(connection, cause, unknown)
            self.apply(unknown)

    def _note_read(self, read: list[int]) -> None:
        """Note the highest id that was read, and the ids before it that were missing."""
        now = self._monotonic()
        kept = [gap for gap in self._gaps if now - gap.noted < _GAP_LIFE]
        gaps = [part for gap in kept for part in _without(gap, read)]
        for number in sorted(read):
            if number > self._last_read + 1:
                gaps.append(_Gap(self._last_read + 1, number - 1, now))
            self._last_read = max(number, self._last_read)
        self._gaps = tuple(gaps[-_MAX_GAPS:])

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
            number = await self._insert(connection, revocation)
            await _end_logins(connection, revocation, self.own_issuer)
            await self._write_covered(connection, number, self._memory.covered(revocation))

    def apply(self, revocations: Iterable[Revocation]) -> None:
        """Put revocations that were written into force in this worker, and tell the others that there are new rows."""
        for revocation in revocations:
            self._memory.apply(revocation)
        self._announce()

    async def entries(self, *, after: int = 0, limit: int = 100) -> list[Entry]:
        """Return the revocations with ids above `after`, the oldest first; at most `limit`."""
        journal = tables.revocations
        wanted = (journal.c.id > after) & journal.c.kind.in_(_KINDS)
        async with self._database.reading() as connection:
            if connection is None:
                return []
            found = await connection.execute(
                select(journal).where(wanted).order_by(journal.c.id).limit(limit)
            )
            return [
                Entry(row.id, revocation, row.until)
                for row in found
                if (revocation := _read(row)) is not None
            ]

    async def take_back(self, number: int) -> bool:
        """Take a revocation back, in all workers; False if there is none of this id.

        Logins that it ended stay ended. Raises ServiceUnavailable.
        """
        journal, causes = tables.revocations, tables.causes
        async with self._database.reading() as connection:
            if connection is None:
                return False
        async with self._database.writing() as connection:
            caused = select(causes.c.id).where(causes.c.cause == number)
            these = (journal.c.id == number) | journal.c.id.in_(caused)
            found = (await connection.execute(select(journal).where(these))).all()
            kinds = {row.id: row.kind for row in found}
            if kinds.get(number) not in _KINDS:
                return False
            await connection.execute(delete(journal).where(journal.c.id.in_(kinds)))
            await connection.execute(delete(causes).where(causes.c.cause == number))
            for row in found:
                await connection.execute(insert(journal).values(self._undoing(row)))
        await self.catch_up()
        self._announce()
        return True

    def _undoing(self, row: Row[Any]) -> dict[str, object]:
        now = self._clock()
        value = f"{row.kind} {row.value}"
        return {"kind": _UNDONE, "value": value, "moment": now, "until": now + _UNDO_LIFE}

    async def _write_covered(
        self, connection: AsyncConnection, cause: int, covered: Iterable[Revocation]
    ) -> None:
        for one in covered:
            number = await self._insert(connection, one)
            values = {"id": number, "cause": cause, "until": self._memory.until(one)}
            await connection.execute(insert(tables.causes).values(values))

    async def _insert(self, connection: AsyncConnection, revocation: Revocation) -> int:
        values = {
            "kind": revocation.kind.value,
            "value": revocation.value,
            "moment": revocation.moment,
            "until": self._memory.until(revocation),
        }
        done = await connection.execute(insert(tables.revocations).values(values))
        # Tables with a key always have one here.
        (number,) = done.inserted_primary_key or (0,)
        return int(number)


def _read(row: Row[Any]) -> Revocation | None:
    """Return the revocation in a row; None, and a line in the log, for what this version cannot read."""
    if not isinstance(row.value, str) or not isinstance(row.moment, float):
        # SQLite stores any type in any column. One bad row must not keep the others from being applied.
        log.error("the database holds a malformed revocation, which is ignored")
    elif isinstance(row.kind, str) and row.kind in _KINDS:
        return Revocation(Kind(row.kind), row.value, row.moment)
    else:  # written by a newer version, during a rolling update
        log.error("a revocation of a kind that this version does not know: %s", row.kind)
    return None


def _without(gap: _Gap, read: list[int]) -> list[_Gap]:
    """Return what is left of a gap without the ids that were read."""
    parts, rest = [], gap
    for number in sorted(number for number in read if gap.first <= number <= gap.last):
        if number > rest.first:
            parts.append(replace(rest, last=number - 1))
        rest = replace(rest, first=number + 1)
    return parts if rest.first > rest.last else [*parts, rest]


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
