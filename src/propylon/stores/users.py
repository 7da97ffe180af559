"""Store the users who may ask for tokens, and check their passwords."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from propylon.errors import InvalidFields
from propylon.proxy.authenticate.revocation import Revocation, of_subject
from propylon.proxy.principal import is_scope
from propylon.stores import tables
from propylon.stores.database import Database
from propylon.stores.journal import RevocationJournal
from propylon.stores.passwords import LONGEST_PASSWORD, Passwords

__all__ = ["Change", "InvalidUser", "NoUser", "User", "UserExists", "Users"]

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


@dataclass(frozen=True, slots=True)
class Change:
    """What changes about a user; None stays as it is."""

    password: str | None = field(default=None, repr=False)
    scopes: frozenset[str] | None = None
    roles: frozenset[str] | None = None
    email: str | None = None
    full_name: str | None = None
    disabled: bool | None = None


class Users:
    """The users in one database."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        clock: Callable[[], float],
        journal: RevocationJournal | None = None,
    ) -> None:
        """`clock` returns seconds since 1970. What a change ends is revoked in `journal`."""
        self._database = database
        self._journal = journal
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

    async def exist(self) -> bool:
        """Tell whether there are users at all, disabled ones included."""
        async with self._database.reading() as connection:
            if connection is None:
                return False
            found = await connection.execute(select(tables.users.c.folded).limit(1))
            return found.first() is not None

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
        await self.change(username, Change(disabled=disabled))

    async def set_password(self, username: str, password: str) -> None:
        """Set a new password. Raises InvalidUser and NoUser."""
        await self.change(username, Change(password=password))

    async def change(self, username: str, change: Change) -> User:
        """Change a user; return the user as it is now. Raises InvalidUser and NoUser.

        If the change takes something away from the user (a disabled user, fewer scopes or roles), or replaces the
        password, the user's logins and all tokens issued before end in the same transaction.
        """
        values = await self._changed(change)
        users = tables.users
        ended: list[Revocation] = []
        async with self._database.writing() as connection:
            theirs = users.c.folded == (_fold(username) or "")
            row = (await connection.execute(select(users).where(theirs).with_for_update())).first()
            if row is None:
                raise NoUser(username)
            before = _user(row)
            after = _after(before, change)
            _check(after)
            if values:
                await connection.execute(update(users).where(theirs).values(values))
            if change.password is not None or _loses(before, after):
                ended = await self._end(connection, before.username)
        self._apply(ended)
        return after

    async def modify(self, username: str, **changes: Any) -> User | None:
        """Change a user as the endpoint wants it. Raises InvalidFields for a value that is not acceptable."""
        try:
            return await self.change(username, Change(**changes))
        except NoUser:
            return None
        except InvalidUser as error:
            msg = "The user cannot be changed like this"
            raise InvalidFields(msg, details={"fields": {"user": str(error)}}) from error

    async def remove(self, username: str) -> None:
        """Remove the user, and end the user's logins and tokens. Raises NoUser."""
        users = tables.users
        async with self._database.writing() as connection:
            theirs = users.c.folded == (_fold(username) or "")
            row = (await connection.execute(select(users).where(theirs).with_for_update())).first()
            if row is None:
                raise NoUser(username)
            await connection.execute(delete(users).where(theirs))
            ended = await self._end(connection, row.username)
        self._apply(ended)

    async def _changed(self, change: Change) -> dict[str, object]:
        """Return the columns that change. Raises InvalidUser."""
        values: dict[str, object] = {}
        if change.password is not None:
            _check_password(change.password)
            values["password_hash"] = await self._passwords.hash(change.password)
        for name in ("scopes", "roles"):
            words: frozenset[str] | None = getattr(change, name)
            if words is not None:
                values[name] = " ".join(sorted(words))
        for name in ("email", "full_name", "disabled"):
            if (value := getattr(change, name)) is not None:
                values[name] = value
        return values

    async def _end(self, connection: AsyncConnection, username: str) -> list[Revocation]:
        # The moment is read inside the transaction: logins that were written before it are older.
        if self._journal is None:
            return []
        ended = [of_subject(username, self._clock())]
        await self._journal.write(connection, ended)
        return ended

    def _apply(self, ended: list[Revocation]) -> None:
        if self._journal is not None:
            self._journal.apply(ended)

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


def _after(user: User, change: Change) -> User:
    """Return the user as the change makes it."""
    names = ("scopes", "roles", "email", "full_name", "disabled")
    changed = {name: getattr(change, name) for name in names}
    return replace(user, **{name: value for name, value in changed.items() if value is not None})


def _loses(before: User, after: User) -> bool:
    """Tell whether tokens from before say more than the user may have now."""
    disabled = after.disabled and not before.disabled
    return disabled or not (before.scopes <= after.scopes and before.roles <= after.roles)


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
