"""Store refresh tokens: each can be used once, and using one again ends its whole family (RFC 9700, 4.14.2).

A refresh token is the id of its family and a secret. A family begins with a login. Each use replaces the secret, and
only digests are stored. A secret that does not match is an old one: either a thief uses it, or the owner does after a
thief has used it. The gateway cannot tell which, and ends the login for both.

An answer may get lost, and two tabs of a browser may refresh at once. So the token that was just used yields another
successor for a short grace, as Auth0 and Okta have it. All successors are valid then, each of them once.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from propylon.proxy.authenticate.revocation import Kind, Revocation
from propylon.stores import tables
from propylon.stores.clocks import MARGIN
from propylon.stores.database import Database
from propylon.stores.journal import RevocationJournal

__all__ = ["Grant", "Grants", "Login"]

_FAMILY_SIZE = 16  # bytes of the family's id
_SECRET_SIZE = 32
_TOKEN = re.compile(r"([0-9a-f]{32})([0-9a-f]{64})")
# Seconds by which the clocks of two machines may differ: the one may have used a token "later" than the other's now.
_SKEW = 60.0
# Tokens of a family that may be valid at once: more tabs than a user opens within the grace.
_MOST_LIVE = 16


@dataclass(frozen=True, slots=True)
class Grant:
    """What a refresh token stands for; `current`: it may be exchanged."""

    family: str
    subject: str
    scopes: frozenset[str]
    current: bool


@dataclass(frozen=True, slots=True)
class Login:
    """A login that goes on. Times are seconds since 1970; `address` is empty if it is not known."""

    id: str
    subject: str
    scopes: frozenset[str]
    begun: float
    renewed: float | None
    expires: float
    address: str


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
        grace: float = 0.0,
    ) -> None:
        """A login lasts `expires` seconds, however often it is refreshed.

        `clock` returns seconds since 1970. `secret(size)` returns that many unpredictable bytes. `grace` is for how
        many seconds a token that was used is accepted again.
        """
        self._database = database
        self._journal = journal
        self.expires = expires
        self.grace = grace
        self._clock = clock
        self._secret = secret

    async def begin(
        self,
        subject: str,
        scopes: frozenset[str],
        token_id: str,
        expires: float,
        address: str = "",
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
            "expires": now + self.expires,
            "address": address or None,
        }
        async with self._database.writing() as connection:
            await connection.execute(insert(tables.families).values(values))
            await _record_access_token(connection, family, token_id, expires)
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
            digest = _digest(token)
            current = hmac.compare_digest(row.digest, digest) or (
                await self._other(connection, row.id, digest) is not None
            )
        return Grant(row.id, row.subject, frozenset(row.scopes.split()), current)

    async def renew(self, token: str, token_id: str, expires: float) -> str | None:
        """Replace a refresh token by a successor; None if it must not be exchanged any more."""
        family, families, now = token[: 2 * _FAMILY_SIZE], tables.families, self._clock()
        successor = family + self._secret(_SECRET_SIZE).hex()
        async with self._database.writing() as connection:
            # The lock on the row makes of two requests with one token a first and a second one. SQLite locks the whole
            # database instead.
            locked = select(families).where(families.c.id == family).with_for_update()
            row = (await connection.execute(locked)).one_or_none()
            if row is None or not await self._use(connection, row, _digest(token), now):
                return None
            renewed = update(families).values(digest=_digest(successor), renewed=now)
            await connection.execute(renewed.where(families.c.id == family))
            access = tables.access_tokens
            expired = (access.c.family == family) & (access.c.expires < now - MARGIN)
            await connection.execute(delete(access).where(expired))
            await _record_access_token(connection, family, token_id, expires)
        return successor

    async def _use(
        self, connection: AsyncConnection, row: Row[Any], digest: str, now: float
    ) -> bool:
        """Mark a token as used; False if it must not be used."""
        if hmac.compare_digest(row.digest, digest):
            if self.grace > 0:
                await _add(connection, row, digest, used=now)
            return True
        other = await self._other(connection, row.id, digest)
        if other is None:
            return False
        tokens = tables.refresh_tokens
        if other.used is not None and await _live(connection, row.id) >= _MOST_LIVE:
            return False
        if other.used is None:
            this = tokens.c.digest == digest
            await connection.execute(update(tokens).where(this).values(used=now))
        # The newest token has been overtaken by this exchange, and its owner may still use it.
        await _add(connection, row, row.digest, used=None)
        return True

    async def _other(
        self, connection: AsyncConnection, family: str, digest: str
    ) -> Row[Any] | None:
        """Return a token beside the newest: one that is not used yet, or was used within the grace."""
        tokens = tables.refresh_tokens
        this = (tokens.c.digest == digest) & (tokens.c.family == family)
        row = (await connection.execute(select(tokens).where(this))).one_or_none()
        if row is None or row.used is None:
            return row
        return row if -_SKEW <= self._clock() - row.used < self.grace else None

    async def logins(self, subject: str) -> list[Login]:
        """Return the logins of a user that go on, the oldest first."""
        families = tables.families
        theirs = (families.c.subject == subject) & (families.c.expires > self._clock())
        async with self._database.reading() as connection:
            if connection is None:
                return []
            found = await connection.execute(
                select(families).where(theirs).order_by(families.c.begun)
            )
            return [_login(row) for row in found]

    async def came_from(self, subject: str, address: str) -> bool:
        """Tell whether the user has a login from this address."""
        families = tables.families
        same = (families.c.subject == subject) & (families.c.address == address)
        async with self._database.reading() as connection:
            if connection is None:
                return False
            found = await connection.execute(select(families.c.id).where(same).limit(1))
            return found.first() is not None

    async def end(self, family: str) -> None:
        """End a family: delete its refresh tokens and revoke its access tokens."""
        families, access, tokens = tables.families, tables.access_tokens, tables.refresh_tokens
        async with self._database.writing() as connection:
            # The delete comes first: it waits for a refresh in progress, whose access token the select then sees.
            await connection.execute(delete(families).where(families.c.id == family))
            await connection.execute(delete(tokens).where(tokens.c.family == family))
            found = await connection.execute(select(access).where(access.c.family == family))
            ended = [Revocation(Kind.ID, row.id, row.expires) for row in found]
            await connection.execute(delete(access).where(access.c.family == family))
            await self._journal.write(connection, ended)
        self._journal.apply(ended)


async def _add(
    connection: AsyncConnection, row: Row[Any], digest: str, *, used: float | None
) -> None:
    values = {"digest": digest, "family": row.id, "used": used, "expires": row.expires}
    await connection.execute(insert(tables.refresh_tokens).values(values))


async def _live(connection: AsyncConnection, family: str) -> int:
    """Return how many tokens beside the newest are not used yet."""
    tokens = tables.refresh_tokens
    unused = (tokens.c.family == family) & tokens.c.used.is_(None)
    count: int = await connection.scalar(select(func.count()).where(unused)) or 0
    return count


def _login(row: Row[Any]) -> Login:
    return Login(
        id=row.id,
        subject=row.subject,
        scopes=frozenset(row.scopes.split()),
        begun=row.begun,
        renewed=row.renewed,
        expires=row.expires,
        address=row.address or "",
    )


async def _record_access_token(
    connection: AsyncConnection, family: str, token_id: str, expires: float
) -> None:
    values = {"id": token_id, "family": family, "expires": expires}
    await connection.execute(insert(tables.access_tokens).values(values))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("ascii")).hexdigest()
