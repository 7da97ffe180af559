"""Read the URL of a database, translate libpq's parameters, and refuse by name what the driver cannot use. Pure.

What passes here must never fail later: a URL that `propylon check` calls valid may not keep the gateway from reading
revocations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

__all__ = ["Address", "CannotUseDatabase", "read_url"]

_FORM = (
    'the URL of the database is not of the form "sqlite:///propylon.db" or "postgresql://host/name"'
)
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_LARGEST_PORT = 65535
_NUMBER = re.compile(r"[0-9]{1,9}")
# PostgreSQL 15, 34.1.2 (parameter key words). asyncpg reads these from its DSN; those that are settings of the server
# (application_name, options) it sends on.
_PASSED = frozenset(
    {
        "application_name",
        "dbname",
        "host",
        "options",
        "passfile",
        "password",
        "port",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslpassword",
        "sslrootcert",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "target_session_attrs",
        "user",
    }
)
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": (
        "any",
        "primary",
        "standby",
        "read-write",
        "read-only",
        "prefer-standby",
    ),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
}
# How they are called elsewhere: `ssl` in asyncpg's own keywords, and so in the URLs of other SQLAlchemy programs.
_SPELLINGS = {"ssl": "sslmode"}
# Parameters of ours that are numbers, and what the driver calls them. The caches have to be off behind PgBouncer.
_NUMBERS = {
    "connect_timeout": "timeout",
    "prepared_statement_cache_size": "prepared_statement_cache_size",
    "statement_cache_size": "statement_cache_size",
}
_SQLITE = frozenset({"cached_statements", "timeout"})


class CannotUseDatabase(Exception):
    """The URL names no database that the gateway can use; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the database is, and how the driver is called."""

    name: str  # in messages: the path of the file, or the URL without its password
    url: URL  # for SQLAlchemy
    arguments: Mapping[str, object]  # for the driver
    file: str | None  # of SQLite


def read_url(text: str) -> Address:
    """Return the database that a URL names. Raises CannotUseDatabase."""
    url = _parsed(text)
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        msg = f'no database of the kind "{url.drivername}" can be used; write sqlite or postgresql'
        raise CannotUseDatabase(msg)
    return _sqlite(url) if driver.startswith("sqlite") else _postgresql(url)


def _parsed(text: str) -> URL:
    try:
        return make_url(text)
    except ArgumentError as error:
        raise CannotUseDatabase(_FORM) from error
    except ValueError:  # SQLAlchemy calls int() with whatever stands behind the colon
        # Not chained: the text of the error would show a password that has a colon in the wrong place.
        msg = f"the port in the URL of the database is no number from 1 to {_LARGEST_PORT}"
        raise CannotUseDatabase(msg) from None


def _sqlite(url: URL) -> Address:
    name = url.database or ""
    if name in {"", ":memory:"} or name.startswith("file:"):
        msg = "a database in memory is lost with the process; write sqlite:///propylon.db"
        raise CannotUseDatabase(msg)
    for parameter in url.query:
        if parameter not in _SQLITE:
            msg = f'the parameter "{parameter}" is not known for SQLite; leave it out'
            raise CannotUseDatabase(msg)
    path = str(Path(name).absolute())
    # Without its parameters: the gateway sets its own timeout, and the others change nothing that it relies on.
    return Address(path, URL.create("sqlite+aiosqlite", database=name), {}, name)


def _postgresql(url: URL) -> Address:
    _check_port(url.port)
    passed: dict[str, str] = {}
    arguments: dict[str, object] = {}
    for parameter in url.query:
        name = _SPELLINGS.get(parameter, parameter)
        value = _single(parameter, url.query[parameter])
        if name in _NUMBERS:
            arguments[_NUMBERS[name]] = _whole(parameter, value)
        elif name in _PASSED:
            _check_value(parameter, name, value)
            passed[name] = value
        else:
            known = ", ".join(sorted({*_PASSED, *_NUMBERS}))
            msg = f'the parameter "{parameter}" cannot be passed to PostgreSQL; known are {known}'
            raise CannotUseDatabase(msg)
    plain = url.set(drivername="postgresql", query=passed)
    # asyncpg reads libpq's parameters from a DSN only; as arguments it does not know them.
    arguments["dsn"] = plain.render_as_string(hide_password=False)
    shown = plain.set(query={key: passed[key] for key in passed if "password" not in key})
    return Address(
        shown.render_as_string(hide_password=True),
        URL.create("postgresql+asyncpg"),
        arguments,
        None,
    )


def _single(parameter: str, value: str | tuple[str, ...]) -> str:
    if isinstance(value, str):
        return value
    msg = f'the parameter "{parameter}" stands twice in the URL of the database'
    raise CannotUseDatabase(msg)


def _check_value(parameter: str, name: str, value: str) -> None:
    if name in _CHOICES and value not in _CHOICES[name]:
        msg = f'the parameter "{parameter}" is "{value}"; write one of {", ".join(_CHOICES[name])}'
        raise CannotUseDatabase(msg)
    if name == "port":
        _check_port(_whole(parameter, value))


def _whole(parameter: str, value: str) -> int:
    if _NUMBER.fullmatch(value) is None:
        msg = f'the parameter "{parameter}" is "{value}"; write a whole number'
        raise CannotUseDatabase(msg)
    return int(value)


def _check_port(port: int | None) -> None:
    if port is not None and not 0 < port <= _LARGEST_PORT:
        msg = f"the port in the URL of the database is no number from 1 to {_LARGEST_PORT}"
        raise CannotUseDatabase(msg)
