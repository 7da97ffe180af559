"""Open a connection that may be used: log in, and learn which database it is.

No message has a word of what Redis answers to a login: a server that does not know the command repeats its arguments, the
password among them.
"""

from __future__ import annotations

import ssl

from propylon.stores.redis.connection import (
    Connection,
    ErrorReply,
    Lost,
    open_connection,
    pack,
)
from propylon.stores.redis.target import Address, Login

__all__ = ["open_logged_in"]

_CODES = frozenset({"WRONGPASS", "NOAUTH", "NOPERM", "LOADING", "MASTERDOWN", "ERR"})


async def open_logged_in(
    address: Address, login: Login, tls: ssl.SSLContext | None, patience: float
) -> Connection:
    """Connect and log in, within so many seconds for each. Raises Lost."""
    connection = await open_connection(address, tls, patience)
    try:
        await _log_in(connection, login, patience)
    except BaseException:
        connection.abort("it was not used")
        raise
    return connection


async def _log_in(connection: Connection, login: Login, patience: float) -> None:
    commands: list[tuple[str, bytes]] = []
    if login.password:
        named = (login.user,) if login.user else ()
        commands.append(("login", pack("AUTH", *named, login.password)))
    if login.database:
        commands.append((f"database {login.database}", pack("SELECT", login.database)))
    # So that `CLIENT LIST` says whose connection it is. Where it is forbidden, nothing is lost.
    commands.append(("", pack("CLIENT", "SETNAME", "propylon")))
    replies = await connection.call_all([packed for _, packed in commands], patience)
    for (what, _), reply in zip(commands, replies, strict=True):
        if what and isinstance(reply, ErrorReply):
            code = reply.code if reply.code in _CODES else "an unknown error"
            msg = f"it refuses the {what} ({code})"
            raise Lost(msg)
