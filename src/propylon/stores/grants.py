"""Keep refresh tokens: each is good once, and one that is used twice ends all that came of its login.

A refresh token is the name of its family, which begins with a login, and a secret. Only the newest secret is
good, and only its digest is kept; every other one of the family must be an old one, and was stolen, or its
successor was.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from propylon.proxy.authenticate.claims import MOST_LEEWAY
from propylon.proxy.authenticate.revocation import Kind, Revocation
from propylon.stores import tables
from propylon.stores.database import Database
from propylon.stores.journal import RevocationJournal

__all__ = ["Grant", "Grants"]

_NAME = 16  # bytes
_SECRET = 32
_TOKEN = re.compile(r"([0-9a-f]{32})([0-9a-f]{64})")
_PRUNE_EVERY = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class Grant:
    """What a refresh token stands for; `current` if it is the newest of its family."""

    family: str
    subject: str
    scopes: frozenset[str]
    current: bool


class Grants:
    """The refresh tokens in one database."""

    def __init__(
        self,
        database: Database,
        journal: RevocationJournal,
        *,
        expires: float,
        clock: Callable[[], float],
        secret: Callable[[int], bytes],
    ) -> None:
        """Let a login last `expires` seconds, however often it is renewed.

        `clock` is the wall's; `secret(size)` returns bytes that nobody can guess.
        """
        self._database = database
        self._journal = journal
        self._expires = expires
        self._clock = clock
        self._secret = secret
        self._prune_at = clock()

    async def begin(
        self, subject: str, scopes: frozenset[str], token_id: str, expires: float
    ) -> str:
        """Begin a family with an access token; return the refresh token."""
        family, now = self._secret(_NAME).hex(), self._clock()
        token = family + self._secret(_SECRET).hex()
        values = {
            "id": family,
            "subject": subject,
            "scopes": " ".join(sorted(scopes)),
            "digest": _digest(token),
            "begun": now,
            "expires": now + self._expires,
        }
        async with self._database.writing() as connection:
            await connection.execute(insert(tables.families).values(values))
            await _note(connection, family, token_id, expires)
            await self._prune(connection, now)
        return token

    async def find(self, token: str) -> Grant | None:
        """Return what a refresh token stands for; None if nobody knows it, or it has expired."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        families = tables.families
        async with self._database.reading() as connection:
            if connection is None:
                return None
            found = await connection.execute(select(families).where(families.c.id == match[1]))
            row = found.one_or_none()
        if row is None or row.expires <= self._clock():
            return None
        current = hmac.compare_digest(row.digest, _digest(token))
        return Grant(row.id, row.subject, frozenset(row.scopes.split()), current)

    async def renew(self, token: str, token_id: str, expires: float) -> str | None:
        """Exchange a refresh token for its successor; None if somebody else was faster."""
        family, families, now = token[: 2 * _NAME], tables.families, self._clock()
        successor = family + self._secret(_SECRET).hex()
        # Of two who come at once, one finds the digest that it knows.
        newest = (families.c.id == family) & (families.c.digest == _digest(token))
        exchange = update(families).where(newest).values(digest=_digest(successor))
        async with self._database.writing() as connection:
            done = await connection.execute(exchange)
            if not done.rowcount:
                return None
            access = tables.access_tokens
            expired = (access.c.family == family) & (access.c.expires < now - MOST_LEEWAY)
            await connection.execute(delete(access).where(expired))
            await _note(connection, family, token_id, expires)
        return successor

    async def end(self, family: str) -> None:
        """End a family: its refresh token, and the access tokens that came of it."""
        families, access = tables.families, tables.access_tokens
        async with self._database.writing() as connection:
            # First, because it waits for a renewal that is under way, whose access token is seen after it.
            await connection.execute(delete(families).where(families.c.id == family))
            found = await connection.execute(select(access).where(access.c.family == family))
            ended = [Revocation(Kind.ID, row.id, row.expires) for row in found]
            await connection.execute(delete(access).where(access.c.family == family))
            await self._journal.write(connection, ended)
        self._journal.apply(ended)

    async def _prune(self, connection: AsyncConnection, now: float) -> None:
        """Remove what has expired, now and then."""
        if now < self._prune_at:
            return
        self._prune_at = now + _PRUNE_EVERY
        for table in (tables.families, tables.access_tokens):
            await connection.execute(delete(table).where(table.c.expires < now - MOST_LEEWAY))
        await self._journal.prune(connection)


async def _note(connection: AsyncConnection, family: str, token_id: str, expires: float) -> None:
    values = {"id": token_id, "family": family, "expires": expires}
    await connection.execute(insert(tables.access_tokens).values(values))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("ascii")).hexdigest()
