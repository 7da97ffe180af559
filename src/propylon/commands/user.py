"""Add, list, change and remove users and their sessions, in the database of the configuration."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from propylon.config.reading.load import Loaded
from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import MOST_LEEWAY
from propylon.stores.database import CannotUseDatabase, Database
from propylon.stores.grants import Grants, Login
from propylon.stores.journal import RevocationJournal
from propylon.stores.memory import LONGEST_TOKEN, MemoryRevocations
from propylon.stores.passwords import Passwords
from propylon.stores.users import Change, InvalidUser, NoUser, User, UserExists, Users
from propylon.wire.grammar import date_time

__all__ = [
    "COLUMNS",
    "SESSION_COLUMNS",
    "UserCommandFailed",
    "add",
    "as_data",
    "change",
    "check",
    "disable",
    "end_sessions",
    "read_all",
    "remove",
    "rows",
    "session_rows",
    "sessions",
    "sessions_as_data",
    "set_password",
]

T = TypeVar("T")

SESSION_COLUMNS = ("id", "begun", "refreshed", "expires", "address", "scopes")
COLUMNS = ("username", "scopes", "roles", "disabled", "email", "full name")
_UNUSABLE = 2


class UserCommandFailed(Exception):
    """The command failed and changed nothing; the message says why, for the operator."""

    def __init__(self, message: str, status: int) -> None:
        """Take the message, and the exit status of the command."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Opened:
    """The open stores that the commands work on."""

    users: Users
    grants: Grants


def check(loaded: Loaded) -> None:
    """Check that the gateway issues tokens at all. Raises UserCommandFailed."""
    auth = loaded.config.auth
    if auth.jwt.secret is None:
        msg = "there is no secret to sign tokens with; set JWT_SECRET_KEY, or write auth.jwt.secret"
        raise UserCommandFailed(msg, _UNUSABLE)
    if not auth.issues:
        msg = "the gateway issues no tokens: auth.tokens.enabled is false"
        raise UserCommandFailed(msg, _UNUSABLE)


def add(loaded: Loaded, user: User, password: str) -> str:
    """Add a user; return a sentence that says so. Raises UserCommandFailed."""

    async def work(stores: _Opened) -> None:
        await stores.users.add(user, password)

    where = _run(loaded, work)
    return f'user "{user.username}" is added to {where}'


def read_all(loaded: Loaded) -> list[User]:
    """Return every user, sorted by name. Raises UserCommandFailed."""
    users: list[User] = []

    async def work(stores: _Opened) -> None:
        users.extend(await stores.users.all())

    _run(loaded, work)
    return users


def exist(loaded: Loaded) -> bool:
    """Tell whether there are users. Raises UserCommandFailed."""
    found: list[bool] = []

    async def work(stores: _Opened) -> None:
        found.append(await stores.users.exist())

    _run(loaded, work)
    return found[0]


def disable(loaded: Loaded, name: str, *, disabled: bool) -> str:
    """Disable or enable a user; return a sentence that says so. Raises UserCommandFailed."""

    async def work(stores: _Opened) -> None:
        await stores.users.disable(name, disabled=disabled)

    _run(loaded, work)
    if not disabled:
        return f'user "{name}" is enabled'
    return (
        f'user "{name}" is disabled; all logins of the user are ended, and their tokens are revoked'
    )


def change(loaded: Loaded, name: str, wanted: Change) -> str:
    """Change scopes, roles, email address or full name; return a sentence that says so. Raises UserCommandFailed."""

    async def work(stores: _Opened) -> None:
        await stores.users.change(name, wanted)

    _run(loaded, work)
    return f'user "{name}" is changed; logins and tokens that say more than the user may have are ended'


def set_password(loaded: Loaded, name: str, password: str) -> str:
    """Replace a password and end all logins of the user; return a sentence that says so.

    Raises UserCommandFailed.
    """

    async def work(stores: _Opened) -> None:
        await stores.users.set_password(name, password)

    _run(loaded, work)
    return f'user "{name}" has a new password; all logins of the user are ended'


def remove(loaded: Loaded, name: str) -> str:
    """Remove a user and end all their logins; return a sentence that says so. Raises UserCommandFailed."""

    async def work(stores: _Opened) -> None:
        await stores.users.remove(name)

    _run(loaded, work)
    return f'user "{name}" is removed, and their tokens are revoked'


def sessions(loaded: Loaded, name: str) -> list[Login]:
    """Return the logins of a user, the oldest first. Raises UserCommandFailed."""
    found: list[Login] = []

    async def work(stores: _Opened) -> None:
        user = await _existing(stores, name)
        found.extend(await stores.grants.logins(user.username))

    _run(loaded, work)
    return found


def end_sessions(loaded: Loaded, name: str, session: str | None) -> str:
    """End one login of a user, or all; return a sentence that says so. Raises UserCommandFailed."""
    ended: list[str] = []

    async def work(stores: _Opened) -> None:
        user = await _existing(stores, name)
        known = [login.id for login in await stores.grants.logins(user.username)]
        for one in known if session is None else [session] * (session in known):
            await stores.grants.end(one)
            ended.append(one)

    _run(loaded, work)
    if session is not None and not ended:
        msg = f'user "{name}" has no session "{session}"'
        raise UserCommandFailed(msg, 1)
    return f'user "{name}": {len(ended)} {"session" if len(ended) == 1 else "sessions"} ended'


async def _existing(stores: _Opened, name: str) -> User:
    user = await stores.users.find(name)
    if user is None:
        raise NoUser(name)
    return user


def session_rows(logins: list[Login]) -> list[tuple[str, ...]]:
    """Return the sessions as texts, one for each of SESSION_COLUMNS."""
    return [
        (
            login.id,
            date_time(login.begun),
            "" if login.renewed is None else date_time(login.renewed),
            date_time(login.expires),
            login.address,
            " ".join(sorted(login.scopes)),
        )
        for login in logins
    ]


def sessions_as_data(logins: list[Login]) -> list[dict[str, Any]]:
    """Return the sessions for JSON."""
    return [{**asdict(login), "scopes": sorted(login.scopes)} for login in logins]


def rows(users: list[User]) -> list[tuple[str, ...]]:
    """Return the users as texts, one for each of COLUMNS."""
    return [
        (
            user.username,
            " ".join(sorted(user.scopes)),
            " ".join(sorted(user.roles)),
            "yes" if user.disabled else "",
            user.email,
            user.full_name,
        )
        for user in users
    ]


def as_data(users: list[User]) -> list[dict[str, Any]]:
    """Return the users for JSON."""
    return [
        {**asdict(user), "scopes": sorted(user.scopes), "roles": sorted(user.roles)}
        for user in users
    ]


def _run(loaded: Loaded, work: Callable[[_Opened], Awaitable[None]]) -> str:
    """Open the stores and do the work; return the name of the database. Raises UserCommandFailed."""

    async def main() -> str:
        async with _opened(loaded) as (stores, where):
            await work(stores)
            return where

    try:
        return asyncio.run(main())
    except InvalidUser as error:
        raise UserCommandFailed(str(error), _UNUSABLE) from error
    except UserExists as error:
        msg = f'there is a user "{error}" already'
        raise UserCommandFailed(msg, 1) from error
    except NoUser as error:
        msg = f'there is no user "{error}"'
        raise UserCommandFailed(msg, 1) from error
    except ServiceUnavailable as error:
        raise UserCommandFailed(error.reason, _UNUSABLE) from error


@asynccontextmanager
async def _opened(loaded: Loaded) -> AsyncIterator[tuple[_Opened, str]]:
    auth = loaded.config.auth
    try:
        database = Database(auth.tokens.database.get_secret_value())
    except CannotUseDatabase as error:
        msg = f"auth.tokens.database: {error}"
        raise UserCommandFailed(msg, _UNUSABLE) from error
    memory = MemoryRevocations(time.time, longest=LONGEST_TOKEN, leeway=MOST_LEEWAY)
    passwords = Passwords()
    try:
        journal = RevocationJournal(database, memory, time.time)
        users = Users(database, passwords, time.time, journal)
        grants = Grants(database, journal, expires=0.0, clock=time.time, secret=secrets.token_bytes)
        yield _Opened(users, grants), database.name
    finally:
        passwords.close()
        await database.close()
