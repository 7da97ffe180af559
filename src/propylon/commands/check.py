"""Check a configuration without starting the gateway: the file, the certificate, the database and the Redis that it names."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError, Problem
from propylon.errors import ServiceUnavailable

__all__ = [
    "as_data",
    "certificate_problems",
    "database_problems",
    "redis_problems",
    "summary",
    "warnings",
]


def certificate_problems(loaded: Loaded) -> list[Problem]:
    """Return the problem that would keep TLS from starting, if there is one."""
    tls = loaded.config.tls
    if tls.certificate is None or tls.key is None:
        return []
    # This imports uvicorn, which takes most of a second: a file without TLS need not wait for it.
    from propylon.process.server import CannotListen, tls_context  # noqa: PLC0415

    try:
        tls_context(tls.certificate, tls.key)
    except CannotListen as error:
        return [loaded.places.problem(("tls", "certificate"), str(error))]
    return []


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
    config = loaded.config
    source = loaded.path or "the environment"
    return f"{source}: valid, {_count(len(config.services), 'service')}, {_count(len(config.routes), 'route')}"


def warnings(loaded: Loaded) -> str:
    """Return the warnings about a valid configuration, one on each line."""
    return "".join(f"warning: {warning}\n" for warning in loaded.warnings)


def as_data(result: Loaded | ConfigError) -> dict[str, list[dict[str, str]]]:
    """Return every problem and every warning, for JSON."""
    problems = result.problems if isinstance(result, ConfigError) else ()
    warned = result.warnings if isinstance(result, Loaded) else ()
    return {"problems": [*map(asdict, problems)], "warnings": [*map(asdict, warned)]}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
