"""Store the users who may ask for tokens, and check their passwords."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from propylon.errors import Conflict, InvalidFields, PreconditionFailed
from propylon.proxy.authenticate.revocation import Revocation, of_subject
from propylon.stores import tables
from propylon.stores.database import Database
from propylon.stores.journal import RevocationJournal
from propylon.stores.passwords import Passwords
from propylon.stores.user_rules import (
    UNGUARDED,
    Change,
    Guard,
    InvalidUser,
    Judge,
    User,
    changed,
    check_password,
    check_user,
    fold,
    guarded_by,
    loses,
)

__all__ = ["Change", "Guard", "InvalidUser", "NoUser", "User", "UserExists", "Users"]


class UserExists(Exception):
    """A user of this name exists already."""


class NoUser(Exception):
    """No user has this name."""


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

    async def page(
        self,
        limit: int,
        *,
        after: str = "",
        prefix: str = "",
        disabled: bool | None = None,
        scope: str = "",
        role: str = "",
    ) -> list[User]:
        """Return up to `limit` users, sorted by name, whose names come behind `after`.

        `prefix` is the beginning of their names, in any capitals. `disabled`, `scope` and `role` are what they must have.
        """
        users = tables.users
        chosen = select(users).order_by(users.c.folded)
        if after:
            chosen = chosen.where(users.c.folded > (fold(after) or ""))
        if prefix:
            # A prefix that no name can have finds none.
            chosen = chosen.where(users.c.folded.startswith(fold(prefix) or " ", autoescape=True))
        if disabled is not None:
            chosen = chosen.where(users.c.disabled == disabled)
        if not scope and not role:
            chosen = chosen.limit(limit)
        async with self._database.reading() as connection:
            if connection is None:
                return []
            found = map(_user, await connection.execute(chosen))
            # Not in SQL: the LIKE of SQLite takes "Read" for "read".
            fitting = (
                user
                for user in found
                if (not scope or scope in user.scopes) and (not role or role in user.roles)
            )
            return list(islice(fitting, limit))

    async def exist(self) -> bool:
        """Tell whether there are users at all, disabled ones included."""
        async with self._database.reading() as connection:
            if connection is None:
                return False
            found = await connection.execute(select(tables.users.c.folded).limit(1))
            return found.first() is not None

    async def add(self, user: User, password: str) -> None:
        """Add a user. Raises InvalidUser and UserExists."""
        check_user(user)
        check_password(password)
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

    async def change(self, username: str, change: Change, guard: Guard = UNGUARDED) -> User:
        """Change a user; return the user as it is now. Raises InvalidUser and NoUser, and what `guard` forbids.

        If the change takes something away from the user (a disabled user, fewer scopes or roles), or replaces the
        password, the user's logins and all tokens issued before end in the same transaction.
        """
        values = await self._changed(change)
        users = tables.users
        ended: list[Revocation] = []
        async with self._database.writing() as connection:
            theirs = users.c.folded == (fold(username) or "")
            others = await self._admins(connection, guard, change)
            before = await self._locked(connection, username, guard)
            after = changed(before, change)
            check_user(after)
            _keep_an_admin(guard, before, after, others)
            if values:
                await connection.execute(update(users).where(theirs).values(values))
            if change.password is not None or loses(before, after):
                ended = await self._end(connection, before.username)
        self._apply(ended)
        return after

    async def modify(
        self,
        username: str,
        fits: Judge | None = None,
        is_admin: Judge | None = None,
        **changes: Any,
    ) -> User | None:
        """Change a user as the endpoint wants it.

        Raises InvalidFields for a value that is not acceptable, PreconditionFailed and Conflict as `Guard` has it.
        """
        try:
            return await self.change(username, Change(**changes), guarded_by(fits, is_admin))
        except NoUser:
            return None
        except InvalidUser as error:
            raise _unfit(error) from error

    async def create(self, password: str, **values: Any) -> User:
        """Add a user as the endpoint wants it. Raises InvalidFields and Conflict."""
        user = User(**values)
        try:
            await self.add(user, password)
        except InvalidUser as error:
            raise _unfit(error) from error
        except UserExists as error:
            msg = "There is a user of this name already"
            raise Conflict(msg, details={"username": user.username}) from error
        return user

    async def remove(self, username: str, guard: Guard = UNGUARDED) -> None:
        """Remove the user, and end the user's logins and tokens. Raises NoUser, and what `guard` forbids."""
        users = tables.users
        async with self._database.writing() as connection:
            theirs = users.c.folded == (fold(username) or "")
            others = await self._admins(connection, guard)
            before = await self._locked(connection, username, guard)
            _keep_an_admin(guard, before, None, others)
            await connection.execute(delete(users).where(theirs))
            ended = await self._end(connection, before.username)
        self._apply(ended)

    async def discard(
        self, username: str, fits: Judge | None = None, is_admin: Judge | None = None
    ) -> bool:
        """Remove a user as the endpoint wants it; False if there is none. Raises as `modify`."""
        try:
            await self.remove(username, guarded_by(fits, is_admin))
        except NoUser:
            return False
        return True

    async def _locked(self, connection: AsyncConnection, username: str, guard: Guard) -> User:
        """Return a user whom nobody else changes until the transaction ends. Raises NoUser, PreconditionFailed."""
        users = tables.users
        chosen = select(users).where(users.c.folded == (fold(username) or "")).with_for_update()
        row = (await connection.execute(chosen)).first()
        if row is None:
            raise NoUser(username)
        user = _user(row)
        if not guard.fits(user):
            msg = "The user was changed meanwhile: read it again"
            raise PreconditionFailed(msg)
        return user

    async def _admins(
        self, connection: AsyncConnection, guard: Guard, change: Change | None = None
    ) -> list[User]:
        """Return the users whom nobody may disable at the same time; none where the change makes nobody less."""
        takes = change is None or change.disabled or change.scopes is not None
        if guard is UNGUARDED or not (takes or (change is not None and change.roles is not None)):
            return []
        # All in one order, before the user's own row: two changes at once would wait for each other for ever otherwise.
        users = tables.users
        chosen = select(users).where(users.c.disabled.is_(False)).order_by(users.c.folded)
        return [_user(row) for row in await connection.execute(chosen.with_for_update())]

    async def _changed(self, change: Change) -> dict[str, object]:
        """Return the columns that change. Raises InvalidUser."""
        values: dict[str, object] = {}
        if change.password is not None:
            check_password(change.password)
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
        folded = fold(username)
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


def _unfit(error: InvalidUser) -> InvalidFields:
    msg = "The user cannot be like this"
    return InvalidFields(msg, details={"fields": {"user": str(error)}})


def _keep_an_admin(guard: Guard, before: User, after: User | None, others: list[User]) -> None:
    """Raise Conflict if nobody could administer the gateway any more."""
    if guard.loses_admin(before, after) and not guard.others(others, before):
        msg = "This is the last user who may administer the gateway"
        raise Conflict(msg, details={"username": before.username})


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
        "folded": fold(user.username),
        "username": user.username,
        "email": user.email,
        "full_name": user.full_name,
        "scopes": " ".join(sorted(user.scopes)),
        "roles": " ".join(sorted(user.roles)),
        "disabled": user.disabled,
    }
