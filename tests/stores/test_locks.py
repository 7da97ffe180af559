"""Locks on the file of a database: whoever looks whether it is there must not end them."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from propylon.stores.database import Database

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO other VALUES (1)")
connection.commit()
connection.close()
"""


@pytest.mark.parametrize("looks", [1, 2])
def test_looking_ends_no_lock(tmp_path: Path, looks: int) -> None:
    """Closing a file ends all locks of a process on it (POSIX): another one would delete the log under us."""
    file = tmp_path / "users.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE other (number)")
    connection.close()

    async def main() -> None:
        database = Database(f"sqlite:///{file}")
        for _ in range(looks):
            async with database.reading() as found:
                assert found is None  # no tables of ours; the pool keeps its connection
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", WRITER, str(file)], check=True
        )
        assert done.returncode == 0
        assert Path(f"{file}-wal").exists()
        await database.close()

    asyncio.run(main())
