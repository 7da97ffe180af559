"""Store refresh tokens: each can be used once, and using one twice ends its whole family (RFC 9700, 4.14.2).

A refresh token is the id of its family and a secret. A family begins with a login. Each use replaces the secret, and
only the digest of the newest one is stored. So a secret that does not match is an old one: either a thief uses it,
or the owner does after a thief has used it. The gateway cannot tell which, and ends the login for both.
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

_FAMILY_SIZE = 16  # bytes of the family's id
_SECRET_SIZE = 32
_TOKEN = re.compile(r"([0-9a-f]{32})([0-9a-f]{64})")
_PRUNE_EVERY = 3600.0  # seconds between two clean-ups of expired rows


@dataclass(frozen=True, slots=True)
class Grant:
    """What a refresh token stands for; `current`: it is the newest of its family."""

    family: str
    subject: str
    scopes: frozenset[str]
    current: bool


class Grants:
    """The families of refresh tokens in one database."""

    def __init__(
        self,
        database: Database,
        journal: RevocationJournal,
        *,
        expires: float,
        clock: Callable[[], float],
        secret: Callable[[int], bytes],
    ) -> None:
        """A login lasts `expires` seconds, however often it is refreshed.

        `clock` returns seconds since 1970. `secret(size)` returns that many unpredictable bytes.
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
        """Begin a family with its first access token; return the first refresh token."""
        family, now = self._secret(_FAMILY_SIZE).hex(), self._clock()
        token = family + self._secret(_SECRET_SIZE).hex()
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
            await _record_access_token(connection, family, token_id, expires)
            await self._prune(connection, now)
        return token

    async def find(self, token: str) -> Grant | None:
        """Return what a refresh token stands for; None if its family is unknown or has expired."""
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
        """Replace a refresh token by its successor; None if another request has replaced it already."""
        family, families, now = token[: 2 * _FAMILY_SIZE], tables.families, self._clock()
        successor = family + self._secret(_SECRET_SIZE).hex()
        # The condition on the digest makes this a compare-and-swap: of two requests with one token, one wins.
        newest = (families.c.id == family) & (families.c.digest == _digest(token))
        exchange = update(families).where(newest).values(digest=_digest(successor))
        async with self._database.writing() as connection:
            done = await connection.execute(exchange)
            if not done.rowcount:
                return None
            access = tables.access_tokens
            expired = (access.c.family == family) & (access.c.expires < now - MOST_LEEWAY)
            await connection.execute(delete(access).where(expired))
            await _record_access_token(connection, family, token_id, expires)
        return successor

    async def end(self, family: str) -> None:
        """End a family: delete its refresh token and revoke its access tokens."""
        families, access = tables.families, tables.access_tokens
        async with self._database.writing() as connection:
            # The delete comes first: it waits for a refresh in progress, whose access token the select then sees.
            await connection.execute(delete(families).where(families.c.id == family))
            found = await connection.execute(select(access).where(access.c.family == family))
            ended = [Revocation(Kind.ID, row.id, row.expires) for row in found]
            await connection.execute(delete(access).where(access.c.family == family))
            await self._journal.write(connection, ended)
        self._journal.apply(ended)

    async def _prune(self, connection: AsyncConnection, now: float) -> None:
        """Delete expired rows, once an hour."""
        if now < self._prune_at:
            return
        self._prune_at = now + _PRUNE_EVERY
        for table in (tables.families, tables.access_tokens):
            await connection.execute(delete(table).where(table.c.expires < now - MOST_LEEWAY))
        await self._journal.prune(connection)


async def _record_access_token(
    connection: AsyncConnection, family: str, token_id: str, expires: float
) -> None:
    values = {"id": token_id, "family": family, "expires": expires}
    await connection.execute(insert(tables.access_tokens).values(values))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("ascii")).hexdigest()
