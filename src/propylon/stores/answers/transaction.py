"""Say what is used of LMDB: its own types allow for buffers, which nobody here asks for."""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager
from typing import Protocol, Self

__all__ = ["NUMBER", "Cursor", "Database", "Environment", "Transaction", "number_of", "packed"]

Database = object
"""One of the trees in a file."""

_NUMBER = struct.Struct(">Q")


class Cursor(Protocol):
    """A place in a tree."""

    def key(self) -> bytes:
        """Return the key."""

    def value(self) -> bytes:
        """Return the value."""

    def first(self) -> bool:
        """Go to the first key; False: there is none."""

    def next(self) -> bool:
        """Go to the next key; False: there is none."""

    def set_range(self, key: bytes) -> bool:
        """Go to the first key that is not less than this one; False: there is none."""

    def __enter__(self) -> Self:
        """Use it."""

    def __exit__(self, *exception: object) -> None:
        """Use it no longer."""


class Transaction(Protocol):
    """What is done whole, or not at all; nobody else writes meanwhile."""

    def get(self, key: bytes, *, db: Database) -> bytes | None:
        """Return a value."""

    def put(self, key: bytes, value: bytes, *, append: bool = False, db: Database) -> bool:
        """Set a value; `append`: the key is greater than all others."""

    def delete(self, key: bytes, *, db: Database) -> bool:
        """Delete a key; False: it was not there."""

    def drop(self, db: Database, *, delete: bool) -> None:
        """Delete all keys."""

    def cursor(self, db: Database) -> Cursor:
        """Return a cursor."""

    def stat(self, db: Database) -> dict[str, int]:
        """Return how many keys and pages a tree has."""


class Environment(Protocol):
    """A file, open in this process."""

    def begin(self, *, write: bool = False) -> AbstractContextManager[Transaction]:
        """Begin a transaction."""

    def open_db(self, key: bytes) -> Database:
        """Open a tree, or make it."""

    def reader_check(self) -> int:
        """Let go of what readers held that are dead."""

    def close(self) -> None:
        """Close it."""


def number_of(data: bytes | None) -> int:
    """Return a number that was kept; 0 for none."""
    return 0 if data is None else int(_NUMBER.unpack(data)[0])


def packed(number: int) -> bytes:
    """Return a number as bytes, in whose order the numbers are."""
    return _NUMBER.pack(number)


NUMBER = _NUMBER.size
"""Bytes of a number."""
