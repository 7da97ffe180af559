"""Check a configuration without starting the gateway: the file, and the certificate that it names."""

from __future__ import annotations

from dataclasses import asdict

from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError, Problem

__all__ = ["as_data", "certificate_problems", "summary", "warnings"]


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
