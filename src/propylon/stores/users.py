"""Store the users who may ask for tokens, and check their passwords."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from propylon.proxy.principal import is_scope
from propylon.stores import tables
from propylon.stores.database import Database
from propylon.stores.passwords import LONGEST_PASSWORD, Passwords

__all__ = ["InvalidUser", "NoUser", "User", "UserExists", "Users"]

SHORTEST_PASSWORD = (
    8  # characters: NIST SP 800-63B, 5.1.1.2, which also advises against further rules
)
_LONGEST_NAME = 128
_LONGEST_FOLDED = 512
_LONGEST_EMAIL = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
_LONGEST_FULL_NAME = 256


class InvalidUser(Exception):
    """A property of the user is not acceptable; the message says which, and what is."""


class UserExists(Exception):
    """A user of this name exists already."""


class NoUser(Exception):
    """No user has this name."""


@dataclass(frozen=True, slots=True)
class User:
    """A user, and what the tokens of this user say."""

    username: str
    email: str = ""
    full_name: str = ""
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    disabled: bool = False


class Users:
    """The users in one database."""

    def __init__(
        self, database: Database, passwords: Passwords, clock: Callable[[], float]
    ) -> None:
        """`clock` returns seconds since 1970."""
        self._database = database
        self._passwords = passwords
        self._clock = clock

    async def authenticate(self, username: str, password: str) -> User | None:
        """Return the user, or None for an unknown name, a wrong password or a disabled user.

        All three take the time of one password hash, so that the time does not tell which names exist
        (CWE-208). A hash with outdated parameters is replaced.
        """
        row = await self._row(username)
        known = None if row is None else row.password_hash
        fits, renewed = await self._passwords.verify(password, known)
        if row is None or not fits or row.disabled:
            return None
        if renewed is not None:
            await self._rehash(row.folded, row.password_hash, renewed)
        return _user(row)

    async def find(self, username: str) -> User | None:
        """Return the user of that name, in any capitalisation, or None."""
        row = await self._row(username)
        return None if row is None else _user(row)

    async def all(self) -> list[User]:
        """Return all users, sorted by name."""
        async with self._database.reading() as connection:
            if connection is None:
                return []
            rows = await connection.execute(select(tables.users).order_by(tables.users.c.folded))
            return [_user(row) for row in rows]

    async def add(self, user: User, password: str) -> None:
        """Add a user. Raises InvalidUser and UserExists."""
        _check(user)
        _check_password(password)
        values = _values(user)
        values["password_hash"] = await self._passwords.hash(password)
        values["created"] = self._clock()
        async with self._database.writing() as connection:
            try:
                await connection.execute(insert(tables.users).values(values))
            except IntegrityError as error:
                raise UserExists(user.username) from error

    async def disable(self, username: str, *, disabled: bool = True) -> None:
        """Disable the user, who gets no more tokens, or enable it again. Raises NoUser."""
        await self._update(username, {"disabled": disabled})

    async def set_password(self, username: str, password: str) -> None:
        """Set a new password. Raises InvalidUser and NoUser."""
        _check_password(password)
        renewed = await self._passwords.hash(password)
        await self._update(username, {"password_hash": renewed})

    async def remove(self, username: str) -> None:
        """Remove the user. Raises NoUser."""
        users = tables.users
        async with self._database.writing() as connection:
            theirs = users.c.folded == (_fold(username) or "")
            done = await connection.execute(delete(users).where(theirs))
            if not done.rowcount:
                raise NoUser(username)

    async def _row(self, username: str) -> Row[Any] | None:
        folded = _fold(username)
        if folded is None:
            return None
        async with self._database.reading() as connection:
            if connection is None:
                return None
            users = tables.users
            found = await connection.execute(select(users).where(users.c.folded == folded))
            return found.one_or_none()

    async def _update(self, username: str, values: dict[str, object]) -> None:
        users = tables.users
        async with self._database.writing() as connection:
            theirs = users.c.folded == (_fold(username) or "")
            done = await connection.execute(update(users).where(theirs).values(values))
            if not done.rowcount:
                raise NoUser(username)

    async def _rehash(self, folded: str, old: str, renewed: str) -> None:
        """Store the hash with the new parameters, unless the password was changed meanwhile."""
        users = tables.users
        unchanged = (users.c.folded == folded) & (users.c.password_hash == old)
        async with self._database.writing() as connection:
            changed = update(users).where(unchanged).values(password_hash=renewed)
            await connection.execute(changed)


def _fold(username: str) -> str | None:
    """Return the name in the form for look-ups; None if no user can have it."""
    # The name becomes a header and the subject of tokens, so it has no control characters and no spaces. Folding
    # makes "Ann" and "ann" one user, and NFKC makes lookalikes such as full-width letters one user, too.
    if not username.isprintable() or " " in username or not 0 < len(username) <= _LONGEST_NAME:
        return None
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", username).casefold())
    return folded if len(folded) <= _LONGEST_FOLDED else None


def _user(row: Row[Any]) -> User:
    return User(
        username=row.username,
        email=row.email,
        full_name=row.full_name,
        scopes=frozenset(row.scopes.split()),
        roles=frozenset(row.roles.split()),
        disabled=row.disabled,
    )


def _values(user: User) -> dict[str, object]:
    return {
        "folded": _fold(user.username),
        "username": user.username,
        "email": user.email,
        "full_name": user.full_name,
        "scopes": " ".join(sorted(user.scopes)),
        "roles": " ".join(sorted(user.roles)),
        "disabled": user.disabled,
    }


def _check(user: User) -> None:
    if _fold(user.username) is None:
        msg = f"a username has 1 to {_LONGEST_NAME} characters, and no spaces among them"
        raise InvalidUser(msg)
    _check_tokens("scope", user.scopes)
    _check_tokens("role", user.roles)
    if " " in user.email or not user.email.isprintable() or len(user.email) > _LONGEST_EMAIL:
        msg = f"an email address has no spaces, and at most {_LONGEST_EMAIL} characters"
        raise InvalidUser(msg)
    if not user.full_name.isprintable() or len(user.full_name) > _LONGEST_FULL_NAME:
        msg = f"a full name has at most {_LONGEST_FULL_NAME} characters, all of them visible"
        raise InvalidUser(msg)


def _check_tokens(what: str, words: Iterable[str]) -> None:
    for word in words:
        # A role may have spaces elsewhere; here both are kept as texts that are joined by spaces.
        if not is_scope(word):
            msg = f'a {what} is visible ASCII without spaces, commas, quotes or backslashes, not "{word}"'
            raise InvalidUser(msg)


def _check_password(password: str) -> None:
    if len(password) < SHORTEST_PASSWORD:
        msg = f"a password has at least {SHORTEST_PASSWORD} characters"
        raise InvalidUser(msg)
    if len(password.encode("utf-8", "surrogatepass")) > LONGEST_PASSWORD:
        msg = f"a password has at most {LONGEST_PASSWORD} bytes"
        raise InvalidUser(msg)
