"""Keep the data of a service in an SQLite file of its own, in the directory that DATA_DIR names."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

__all__ = ["Store"]


class Store:
    """The database of one service."""

    def __init__(self, name: str, schema: str) -> None:
        """Take the name of the file, and the statements that make the tables."""
        self._name = name
        self._schema = schema

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open the database for one transaction: kept if the block ends well, undone if it raises."""
        folder = Path(os.environ.get("DATA_DIR", "data"))
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(folder / f"{self._name}.db", timeout=10)) as database:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA foreign_keys = ON")
            database.executescript(self._schema)
            with database:
                yield database
