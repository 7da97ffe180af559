"""Add, list and change the users of the token endpoint, in the database that the configuration names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from propylon.config.reading.load import Loaded
from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import MOST_LEEWAY
from propylon.proxy.authenticate.revocation import of_subject
from propylon.stores.database import CannotUseDatabase, Database
from propylon.stores.journal import RevocationJournal
from propylon.stores.memory import LONGEST_TOKEN, MemoryRevocations
from propylon.stores.passwords import Passwords
from propylon.stores.users import InvalidUser, NoUser, User, UserExists, Users

__all__ = [
    "COLUMNS",
    "Refused",
    "add",
    "as_data",
    "check",
    "disable",
    "listed",
    "remove",
    "rows",
    "set_password",
]

T = TypeVar("T")

COLUMNS = ("username", "scopes", "roles", "disabled", "email", "full name")
_UNUSABLE = 2


class Refused(Exception):
    """It was not done; the message is one clear sentence."""

    def __init__(self, message: str, status: int) -> None:
        """Say why, and with which status the command ends."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the commands work on."""

    users: Users
    journal: RevocationJournal


def check(loaded: Loaded) -> None:
    """See to it that there is something to have users for. Raises Refused."""
    auth = loaded.config.auth
    if auth.jwt.secret is None:
        msg = "there is no secret to sign tokens with; set JWT_SECRET_KEY, or write auth.jwt.secret"
        raise Refused(msg, _UNUSABLE)
    if not auth.issues:
        msg = "the gateway gives out no tokens: auth.tokens.enabled is false"
        raise Refused(msg, _UNUSABLE)


def add(loaded: Loaded, user: User, password: str) -> str:
    """Add a user; return what was done. Raises Refused."""

    async def work(stores: _Opened) -> None:
        await stores.users.add(user, password)

    where = _run(loaded, work)
    return f'user "{user.username}" is added to {where}'


def listed(loaded: Loaded) -> list[User]:
    """Return every user, by name. Raises Refused."""
    found: list[User] = []

    async def work(stores: _Opened) -> None:
        found.extend(await stores.users.all())

    _run(loaded, work)
    return found


def disable(loaded: Loaded, name: str, *, disabled: bool) -> str:
    """Give a user no more tokens, or again; return what was done. Raises Refused."""

    async def work(stores: _Opened) -> None:
        await stores.users.disable(name, disabled=disabled)

    _run(loaded, work)
    if not disabled:
        return f'user "{name}" is enabled'
    life = f"{loaded.config.auth.tokens.expires:g}s"
    return (
        f'user "{name}" is disabled; a token that was given out before counts until it expires ({life}),'
        f" unless it is taken back at {loaded.config.prefix}/auth/revoke"
    )


def set_password(loaded: Loaded, name: str, password: str) -> str:
    """Replace a password and end the logins with the old one; return what was done. Raises Refused."""

    async def work(stores: _Opened) -> None:
        user = await _found(stores, name)
        await stores.users.set_password(name, password)
        # Last, so that no login with the old one comes after it.
        await stores.journal.revoke(of_subject(user.username, time.time()))

    _run(loaded, work)
    return f'user "{name}" has another password; whoever was logged in has to log in again'


def remove(loaded: Loaded, name: str) -> str:
    """Remove a user and end their logins; return what was done. Raises Refused."""

    async def work(stores: _Opened) -> None:
        user = await _found(stores, name)
        await stores.users.remove(name)
        await stores.journal.revoke(of_subject(user.username, time.time()))

    _run(loaded, work)
    return f'user "{name}" is removed, and their tokens are taken back'


async def _found(stores: _Opened, name: str) -> User:
    user = await stores.users.find(name)
    if user is None:
        raise NoUser(name)
    return user


def rows(users: list[User]) -> list[tuple[str, ...]]:
    """Return the list for people, one text for each of COLUMNS."""
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
    """Return the list for a program."""
    return [
        {**asdict(user), "scopes": sorted(user.scopes), "roles": sorted(user.roles)}
        for user in users
    ]


def _run(loaded: Loaded, work: Callable[[_Opened], Awaitable[None]]) -> str:
    """Do the work with everything open; return the name of the database. Raises Refused."""

    async def main() -> str:
        async with _opened(loaded) as (stores, where):
            await work(stores)
            return where

    try:
        return asyncio.run(main())
    except InvalidUser as error:
        raise Refused(str(error), _UNUSABLE) from error
    except UserExists as error:
        msg = f'there is a user "{error}" already'
        raise Refused(msg, 1) from error
    except NoUser as error:
        msg = f'there is no user "{error}"'
        raise Refused(msg, 1) from error
    except ServiceUnavailable as error:
        raise Refused(error.reason, _UNUSABLE) from error


@asynccontextmanager
async def _opened(loaded: Loaded) -> AsyncIterator[tuple[_Opened, str]]:
    auth = loaded.config.auth
    try:
        database = Database(auth.tokens.database.get_secret_value())
    except CannotUseDatabase as error:
        msg = f"auth.tokens.database: {error}"
        raise Refused(msg, _UNUSABLE) from error
    memory = MemoryRevocations(time.time, longest=LONGEST_TOKEN, leeway=MOST_LEEWAY)
    passwords = Passwords()
    try:
        users = Users(database, passwords, time.time)
        journal = RevocationJournal(database, memory, time.time)
        yield _Opened(users, journal), database.name
    finally:
        passwords.close()
        await database.close()
