"""Connect to the SQL database, run transactions, keep its schema up to date, and translate the driver's errors.

Whatever fails in here is a `ServiceUnavailable` for the callers. Reading never creates a database: where there is
none, there are no users. Writing creates it, so that the first `propylon user add` needs no other command.

A file that was there once must stay there. A gateway that took a deleted file for an empty database would let revoked
tokens pass and refuse right passwords.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from propylon.errors import ServiceUnavailable
from propylon.stores.schema import BadSchema, Held, bring_up_to_date, held
from propylon.stores.urls import Address, CannotUseDatabase, read_url

__all__ = ["CannotUseDatabase", "Database"]

log = logging.getLogger(__name__)

# Seconds. The first bounds the whole wait of a request; the second a wait for another writer (SQLite) or for a
# connection. The second is shorter, so that its clearer error comes first.
_REQUEST_TIMEOUT = 10.0
_LOCK_TIMEOUT = 5.0
_RETRY_AFTER = ((b"Retry-After", b"5"),)
# The key of an advisory lock in PostgreSQL: any number that no other application uses. The letters of "propylon".
_SCHEMA_LOCK = int.from_bytes(b"propylon")
_RESTART = "put it back, or restart the gateway to begin with an empty one"


class Database:
    """A database: its connections, its schema, its transactions."""

    def __init__(self, url: str) -> None:
        """Parse the URL; connect later. Raises CannotUseDatabase."""
        self._address = read_url(url)
        self._engine = _engine(self._address)
        # TimeoutError is an OSError. SQLAlchemy does not wrap what the driver raises while it connects.
        self._errors: tuple[type[Exception], ...] = (
            SQLAlchemyError,
            OSError,
            *_driver_errors(self._address),
        )
        self._file = self._address.file
        self._seen: tuple[int, int] | None = None  # device and inode of the file
        self._known = False  # True once the schema was seen in it
        self._ready = False  # True as long as it is known, and the file is the same
        # Hears how long each use took: `read` or `write`, and seconds, from the connection to the end of the transaction.
        self.observe: Callable[[str, float], None] = _unobserved
        # Counts how often the file was replaced by another one: what was read of the old one says nothing of it.
        self.generation = 0

    @property
    def name(self) -> str:
        """The database in messages: the path of the file, or the URL without its password."""
        return self._address.name

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection | None]:
        """Connect for reading; yields None if there is no database yet. Raises ServiceUnavailable.

        Brings a database of an earlier release up to date.
        """
        async with self._timing("read"), self._translating_errors():
            if not await self._look():
                yield None  # SQLite would create the file on connecting
                return
            if not self._ready and await self._inspect() is Held.NOTHING:
                yield None
                return
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction and commit it at the end; create the schema first if it is missing.

        An exception inside the block rolls the transaction back. Raises ServiceUnavailable.
        """
        async with self._timing("write"), self._translating_errors():
            await self._look()
            if not self._ready and await self._inspect() is Held.NOTHING:
                await self._create()
            async with self._engine.connect() as connection:
                await self._begin(connection)
                yield connection
                await connection.commit()

    async def probe(self) -> Held:
        """Connect, and return what the database holds; changes nothing. Raises ServiceUnavailable."""
        async with self._translating_errors():
            if self._file is not None and _status(self._file) is None:
                _check_directory(self.name)
                return Held.NOTHING
            async with self._engine.connect() as connection:
                return await connection.run_sync(held)

    async def close(self) -> None:
        """Close all connections of the pool; the next call opens new ones."""
        await self._engine.dispose()

    async def _look(self) -> bool:
        """Look at the file; False if there is none yet. Raises BadSchema if it is gone, and OSError."""
        if self._file is None:
            return True
        found = _status(self._file)
        if found is None and self._seen is None:
            return False
        if found is None:
            msg = f"was deleted while the gateway runs; {_RESTART}"
            raise BadSchema(msg)
        if self._seen is not None and found.st_size == 0:
            msg = f"was emptied while the gateway runs; {_RESTART}"
            raise BadSchema(msg)
        if self._seen is not None and self._seen != (found.st_dev, found.st_ino):
            await self._turn_to_another()
        return True

    async def _turn_to_another(self) -> None:
        """Leave the connections to a file that is no longer there by its name, and use the one that is."""
        log.warning(
            "the database %s was replaced while the gateway runs: it is read anew", self.name
        )
        self._seen, self._ready = None, False
        self.generation += 1
        await self._engine.dispose()

    async def _inspect(self) -> Held:
        """Return what the database holds, up to date. Raises BadSchema."""
        if self._file is not None and _status(self._file) is None:
            return Held.NOTHING
        async with self._engine.connect() as connection:
            found = await connection.run_sync(held)
        if found is Held.NOTHING:
            if self._known:
                msg = f"has none of the gateway's tables any more; {_RESTART}"
                raise BadSchema(msg)
            return found
        if found is Held.OLDER:
            await self._change_schema()
            log.warning("the database %s is brought up to date with this release", self.name)
        self._note_ready()
        return Held.CURRENT

    def _note_ready(self) -> None:
        found = None if self._file is None else _status(self._file)
        self._seen = None if found is None else (found.st_dev, found.st_ino)
        self._ready = self._known = True

    async def _begin(self, connection: AsyncConnection) -> None:
        # By default SQLite takes the write lock with the first write. A transaction that has read before it then
        # fails at once (SQLITE_BUSY) instead of waiting for its turn, since its snapshot may be outdated.
        if self._file is not None:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")

    async def _create(self) -> None:
        """Create the schema; several workers may do so at the same time."""
        if self._file is not None:
            # Mode 600: the file holds password hashes. SQLite gives its -wal and -shm files the same mode.
            if _status(self._file) is None:
                with suppress(FileExistsError):  # another worker was first; see _status for O_EXCL
                    os.close(os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            await self._enable_wal()
        await self._change_schema()
        self._note_ready()

    async def _change_schema(self) -> None:
        """Create what is missing, while no other worker does."""
        async with self._engine.connect() as connection:
            await self._begin(connection)
            if self._file is None:
                # CREATE TABLE IF NOT EXISTS fails if two workers find the table missing at the same moment.
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
            await connection.run_sync(bring_up_to_date)
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

    @asynccontextmanager
    async def _timing(self, operation: str) -> AsyncIterator[None]:
        """Tell how long the block took, also of one that has failed."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(operation, time.perf_counter() - began)

    @asynccontextmanager
    async def _translating_errors(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                yield
        except BadSchema as error:
            raise _unavailable(reason=f"{self.name} {error}") from error
        except self._errors as error:
            original = error.orig if isinstance(error, DBAPIError) else error
            raise _unavailable(reason=f"{type(original).__name__}: {original}") from error


def _unobserved(operation: str, seconds: float) -> None:
    """Stand in for `observe` until there is a listener."""


def _unavailable(reason: str) -> ServiceUnavailable:
    msg = "Accounts cannot be looked up now"
    return ServiceUnavailable(msg, headers=_RETRY_AFTER, reason=f"database: {reason}")


def _status(file: str) -> os.stat_result | None:
    """Return what the system says of the file; None if it is missing. Raises OSError for what cannot be read."""
    try:
        found = Path(file).stat()
    except FileNotFoundError:
        return None
    # SQLite's own error is only "unable to open", and the driver's thread may outlive the loop then. The file is
    # not opened to find out: POSIX drops all locks of a process on a file when any descriptor of it is
    # closed, and SQLite's locks would be among them.
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
    if not os.access(file, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)
    return found


def _check_directory(file: str) -> None:
    """Raise OSError if the file cannot be created where it should be."""
    directory = Path(file).parent
    if not directory.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


def _engine(address: Address) -> AsyncEngine:
    """Return the engine. Raises CannotUseDatabase if the driver is not installed."""
    if address.file is not None:
        # No implicit transactions of the driver (isolation_level None): `writing` begins them itself.
        own: dict[str, object] = {"isolation_level": None, "timeout": _LOCK_TIMEOUT}
    else:
        own = {"timeout": _LOCK_TIMEOUT}
    try:
        return create_async_engine(
            address.url,
            hide_parameters=True,  # errors are logged, and the parameters are hashes and digests
            pool_pre_ping=True,  # reconnects after a restart of the database
            pool_timeout=_LOCK_TIMEOUT,
            connect_args={**own, **address.arguments},
        )
    except ModuleNotFoundError as error:
        backend = address.url.get_backend_name()
        msg = f"{backend} needs {error.name}: pip install 'propylon[postgres]'"
        raise CannotUseDatabase(msg) from error


def _driver_errors(address: Address) -> tuple[type[Exception], ...]:
    """Return the errors of the driver that SQLAlchemy does not know."""
    if address.file is not None:
        return ()
    import asyncpg  # noqa: PLC0415 — an extra, and loaded with the engine already

    return asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError
