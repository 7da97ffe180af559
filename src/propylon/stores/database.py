"""Connect to the SQL database, run transactions, create the schema, and translate the driver's errors.

Whatever fails in here is a `ServiceUnavailable` for the callers. Reading never creates a database: where there is
none, there are no users. Writing creates it, so that the first `propylon user add` needs no other command.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from propylon.errors import ServiceUnavailable
from propylon.stores.tables import METADATA

__all__ = ["CannotUseDatabase", "Database"]

# Seconds. The first bounds the whole wait of a request; the second a wait for another writer (SQLite) or for a
# connection. The second is shorter, so that its clearer error comes first.
_REQUEST_TIMEOUT = 10.0
_LOCK_TIMEOUT = 5.0
_RETRY_AFTER = ((b"Retry-After", b"5"),)
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
# The key of an advisory lock in PostgreSQL: any number that no other application uses. The letters of "propylon".
_SCHEMA_LOCK = int.from_bytes(b"propylon")


class CannotUseDatabase(Exception):
    """The URL names no database that the gateway can use; the message says what to write instead."""


class Database:
    """A database: its connections, its schema, its transactions."""

    def __init__(self, url: str) -> None:
        """Parse the URL; connect later. Raises CannotUseDatabase."""
        self._url = _parsed(url)
        self._engine = _engine(self._url)
        self._sqlite = self._engine.dialect.name == "sqlite"
        self._ready = (
            False  # True once the schema was seen; nothing removes it while the gateway runs
        )

    @property
    def name(self) -> str:
        """The database in messages: the path of the file, or the URL without its password."""
        return _display_name(self._url)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection | None]:
        """Connect for reading; yields None if there is no database yet. Raises ServiceUnavailable."""
        async with _translating_errors():
            if self._is_missing():
                yield None  # SQLite would create the file on connecting
                return
            async with self._engine.connect() as connection:
                self._ready = self._ready or await connection.run_sync(_is_complete)
                yield connection if self._ready else None

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction and commit it at the end; create the schema first if it is missing.

        An exception inside the block rolls the transaction back. Raises ServiceUnavailable.
        """
        async with _translating_errors():
            if not self._ready:
                await self._create()
                self._ready = True
            async with self._engine.connect() as connection:
                await self._begin(connection)
                yield connection
                await connection.commit()

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def _begin(self, connection: AsyncConnection) -> None:
        # By default SQLite takes the write lock with the first write. A transaction that has read before it then
        # fails at once (SQLITE_BUSY) instead of waiting for its turn, since its snapshot may be outdated.
        if self._sqlite:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")

    async def _create(self) -> None:
        """Create the schema; several workers may do so at the same time."""
        if self._sqlite:
            # Mode 600: the file holds password hashes. SQLite gives its -wal and -shm files the same mode.
            if self._is_missing():
                with suppress(
                    FileExistsError
                ):  # another worker was first; see _is_missing for O_EXCL
                    os.close(os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            await self._enable_wal()
        async with self._engine.connect() as connection:
            await self._begin(connection)
            if not self._sqlite:
                # CREATE TABLE IF NOT EXISTS fails if two workers find the table missing at the same moment.
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
            await connection.run_sync(METADATA.create_all)
            await connection.commit()

    async def _enable_wal(self) -> None:
        """Switch the file to write-ahead logging, once in its life: then readers do not wait for writers."""
        async with self._engine.connect() as connection:
            while True:
                try:
                    await connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                except DBAPIError as error:
                    # Two workers that switch at once exclude each other, and SQLite's timeout does not apply.
                    if "locked" not in str(error.orig):
                        raise
                    await asyncio.sleep(0.01)
                else:
                    return

    def _is_missing(self) -> bool:
        """Tell whether the SQLite file is missing. Raises OSError for a directory or an unreadable file."""
        if not self._sqlite or self._ready:
            return False
        try:
            found = Path(self._file).stat()
        except FileNotFoundError:
            return True
        # SQLite's own error is only "unable to open", and the driver's thread may outlive the loop then. The file is
        # not opened to find out: POSIX drops all locks of a process on a file when any descriptor of it is
        # closed, and SQLite's locks would be among them.
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._file)
        if not os.access(self._file, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self._file)
        return False

    @property
    def _file(self) -> str:
        return self._url.database or ""


def _is_complete(connection: Connection) -> bool:
    return METADATA.tables.keys() <= set(inspect(connection).get_table_names())


def _display_name(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(Path(url.database or "").absolute())
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        msg = 'the URL of the database is not of the form "sqlite:///propylon.db" or "postgresql://host/name"'
        raise CannotUseDatabase(msg) from error
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        msg = f'no database of the kind "{url.drivername}" can be used; write sqlite or postgresql'
        raise CannotUseDatabase(msg)
    name = url.database or ""
    if driver.startswith("sqlite") and (name in {"", ":memory:"} or name.startswith("file:")):
        msg = "a database in memory is lost with the process; write sqlite:///propylon.db"
        raise CannotUseDatabase(msg)
    return url.set(drivername=driver)


def _engine(url: URL) -> AsyncEngine:
    # No implicit transactions of the driver (isolation_level None): `writing` begins them itself.
    sqlite = {"isolation_level": None, "timeout": _LOCK_TIMEOUT}
    try:
        return create_async_engine(
            url,
            hide_parameters=True,  # errors are logged, and the parameters are hashes and digests
            pool_pre_ping=True,  # reconnects after a restart of the database
            pool_timeout=_LOCK_TIMEOUT,
            connect_args=(
                sqlite if url.drivername.startswith("sqlite") else {"timeout": _LOCK_TIMEOUT}
            ),
        )
    except ModuleNotFoundError as error:
        msg = f"{url.get_backend_name()} needs {error.name}: pip install 'propylon[postgres]'"
        raise CannotUseDatabase(msg) from error


@asynccontextmanager
async def _translating_errors() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT):
            yield
    except (SQLAlchemyError, OSError) as error:  # TimeoutError is an OSError
        original = error.orig if isinstance(error, DBAPIError) else error
        reason = f"database: {type(original).__name__}: {original}"
        msg = "Accounts cannot be looked up now"
        raise ServiceUnavailable(msg, headers=_RETRY_AFTER, reason=reason) from error
