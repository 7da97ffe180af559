"""Check a configuration without starting: the file, and the listeners, certificates, database and Redis in it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError, Problem
from propylon.errors import ServiceUnavailable

__all__ = [
    "as_data",
    "database_problems",
    "listener_findings",
    "redis_problems",
    "status",
    "summary",
    "warnings",
]


def listener_findings(loaded: Loaded) -> tuple[list[Problem], list[Problem]]:
    """Return the problems that would keep the gateway from listening, and the doubts about its certificates."""
    # This imports TLS and sockets: only a check of the whole needs them.
    from propylon.process.rehearse import rehearse  # noqa: PLC0415

    found = [*rehearse(loaded.config)]
    places = loaded.places
    problems = [places.problem(one.path, one.message) for one in found if one.doubt is None]
    return problems, [
        places.problem(one.path, one.message, one.doubt.id)
        for one in found
        if one.doubt is not None
    ]


def database_problems(loaded: Loaded, *, connect: bool) -> list[Problem]:
    """Return the problem that would keep the gateway from its database, if there is one.

    Its URL and the driver are looked at in any case; with `connect` also whether it can be reached and read.
    """
    auth = loaded.config.auth
    if not auth.verifies:
        return []
    # This imports SQLAlchemy, which takes half a second: a gateway without tokens need not wait for it.
    from propylon.stores.database import CannotUseDatabase, Database  # noqa: PLC0415

    async def probe(database: Database) -> None:
        try:
            await database.probe()
        finally:
            await database.close()

    try:
        database = Database(auth.tokens.database.get_secret_value())
        if connect:
            asyncio.run(probe(database))
    except CannotUseDatabase as error:
        return [loaded.places.problem(("auth", "tokens", "database"), str(error))]
    except ServiceUnavailable as error:
        return [loaded.places.problem(("auth", "tokens", "database"), error.reason or str(error))]
    return []


def status(result: Loaded | ConfigError, *, strict: bool) -> int:
    """Return the exit status: 2 if there is a problem, with `strict` 1 if there is a warning, else 0."""
    if isinstance(result, ConfigError):
        return 2
    return 1 if strict and result.warnings else 0


def redis_problems(loaded: Loaded, *, connect: bool) -> list[Problem]:
    """Return the problem that would keep the gateway from Redis, if there is one.

    The files that its URL names are looked at in any case; with `connect` also whether it can be used.
    """
    # The client's parser is loaded for it: a gateway without Redis need not wait for that.
    from propylon.compile.redis import UnusableRedis, compile_redis  # noqa: PLC0415
    from propylon.stores.redis.connection import Lost  # noqa: PLC0415
    from propylon.stores.redis.trial import try_redis  # noqa: PLC0415

    try:
        target = compile_redis(loaded.config.redis)
        if connect and target is not None:
            asyncio.run(try_redis(target))
    except (UnusableRedis, Lost) as error:
        return [loaded.places.problem(("redis", "url"), str(error))]
    return []


def summary(loaded: Loaded) -> str:
    """Return one line about a valid configuration: its source and its size."""
    return f"{loaded.source}: valid, {loaded.config.size}{_open_paths(loaded)}"


def _open_paths(loaded: Loaded) -> str:
    """Return the paths that variables leave open, as the end of a line: they were perhaps not asked for."""
    opened = "" if loaded.path is not None else loaded.config.open_paths
    return f"; {opened}" if opened else ""


def warnings(loaded: Loaded) -> str:
    """Return the warnings about a valid configuration, and what is no doubt but good to know, one on each line."""
    warned = "".join(f"warning: {warning}\n" for warning in loaded.warnings)
    return warned + "".join(f"note: {note}\n" for note in loaded.notes)


def as_data(result: Loaded | ConfigError) -> dict[str, list[dict[str, str]]]:
    """Return every problem and every warning, for JSON; a warning has the id of its rule."""
    problems = result.problems if isinstance(result, ConfigError) else ()
    warned = result.warnings if isinstance(result, Loaded) else ()
    return {"problems": [*map(_without_rule, problems)], "warnings": [*map(asdict, warned)]}


def _without_rule(problem: Problem) -> dict[str, str]:
    return {"place": problem.place, "where": problem.where, "message": problem.message}
