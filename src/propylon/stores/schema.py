"""Tell what a database holds, create its tables, and add what a newer release needs.

Strategy. Migrations only add tables and columns, and each of those says in `tables` with which addition it came. So the
definitions of the tables are the migrations, and there are no scripts beside them that could disagree. Alembic would bring
Mako, a directory of scripts and a table of its own for the same two statements. What cannot be done by adding raises
VERSION instead: then older releases refuse the database by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from enum import Enum

from sqlalchemy import Column, Connection, Table, delete, insert, inspect, select
from sqlalchemy.schema import CreateColumn

from propylon.stores import tables

__all__ = ["ADDITIONS", "VERSION", "BadSchema", "Held", "bring_up_to_date", "held"]

# The database of the releases before there was a number is version 1 without additions.
VERSION = 1
ADDITIONS = 1

_Present = dict[str, AbstractSet[str]]  # the columns of the tables that are there
_RESTORE = "restore a backup, or name another database"


class BadSchema(Exception):
    """The database cannot be used as it is; the message says why and what to do, behind its name."""


class Held(Enum):
    """What a database holds."""

    NOTHING = "nothing"  # no table of ours
    OLDER = "older"  # the tables of an earlier release
    CURRENT = "current"  # everything that this release needs


def held(connection: Connection) -> Held:
    """Return what the database holds. Raises BadSchema if it is damaged, or made by a newer version."""
    present = _present(connection)
    if not present:
        return Held.NOTHING
    additions = _additions(connection, present)
    for table, column in _parts(range(additions + 1)):
        if table.name not in present:
            msg = f'lacks the table "{table.name}"; {_RESTORE}'
            raise BadSchema(msg)
        if column.name not in present[table.name]:
            msg = f'lacks the column "{column.name}" of the table "{table.name}"; {_RESTORE}'
            raise BadSchema(msg)
    return Held.OLDER if additions < ADDITIONS else Held.CURRENT


def bring_up_to_date(connection: Connection) -> None:
    """Create the tables, or add what is missing. The caller holds the lock. Raises BadSchema."""
    found = held(connection)
    if found is Held.NOTHING:
        tables.METADATA.create_all(connection)
    elif found is Held.OLDER:
        _add(connection, _present(connection))
    else:
        return
    connection.execute(delete(tables.schema))
    row = {"id": 1, "version": VERSION, "additions": ADDITIONS}
    connection.execute(insert(tables.schema).values(row))


def _present(connection: Connection) -> _Present:
    inspector = inspect(connection)
    ours = tables.METADATA.tables.keys() & set(inspector.get_table_names())
    return {name: {column["name"] for column in inspector.get_columns(name)} for name in ours}


def _additions(connection: Connection, present: _Present) -> int:
    """Return how many additions the database has. Raises BadSchema."""
    if tables.schema.name not in present:
        return 0
    row = connection.execute(select(tables.schema)).first()
    # SQLite stores any type in any column.
    if row is None or not isinstance(row.version, int) or not isinstance(row.additions, int):
        msg = f'does not say in the table "{tables.schema.name}" which version it is; {_RESTORE}'
        raise BadSchema(msg)
    if row.version > VERSION:
        msg = f"was made by a newer version of Propylon (schema {row.version}; this one knows {VERSION}); run that version"
        raise BadSchema(msg)
    return min(row.additions, ADDITIONS)


def _parts(since: range) -> Iterator[tuple[Table, Column[object]]]:
    """Yield the columns that came with these additions."""
    for table in tables.METADATA.tables.values():
        for column in table.columns:
            if max(_since(table), _since(column)) in since:
                yield table, column


def _since(part: Table | Column[object]) -> int:
    since: int = part.info.get("since", 0)
    return since


def _add(connection: Connection, present: _Present) -> None:
    """Add every table and column that is missing; what is there already stays as it is."""
    for table, column in _parts(range(1, ADDITIONS + 1)):
        if table.name not in present:
            table.create(connection, checkfirst=True)
        elif column.name not in present[table.name]:
            name = connection.dialect.identifier_preparer.format_table(table)
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN {definition}")
