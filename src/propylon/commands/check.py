"""Check a configuration without starting anything: the file, and the certificate it names."""

from __future__ import annotations

from dataclasses import asdict

from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError, Problem

__all__ = ["as_data", "certificate_problems", "summary", "warnings"]


def certificate_problems(loaded: Loaded) -> list[Problem]:
    """Return what would keep TLS from starting."""
    tls = loaded.config.tls
    if tls.certificate is None or tls.key is None:
        return []
    # uvicorn comes with it: a second that a file without TLS need not wait.
    from propylon.process.server import CannotListen, tls_context  # noqa: PLC0415

    try:
        tls_context(tls.certificate, tls.key)
    except CannotListen as error:
        return [loaded.places.problem(("tls", "certificate"), str(error))]
    return []


def summary(loaded: Loaded) -> str:
    """Say what a valid configuration has in it."""
    config = loaded.config
    source = loaded.path or "the environment"
    return f"{source}: valid, {_count(len(config.services), 'service')}, {_count(len(config.routes), 'route')}"


def warnings(loaded: Loaded) -> str:
    """Say each doubt about a valid configuration, one a line."""
    return "".join(f"warning: {warning}\n" for warning in loaded.warnings)


def as_data(found: Loaded | ConfigError) -> dict[str, list[dict[str, str]]]:
    """Return every problem and every doubt for a program: place, where, message."""
    wrong = found.problems if isinstance(found, ConfigError) else ()
    doubtful = found.warnings if isinstance(found, Loaded) else ()
    return {"problems": [*map(asdict, wrong)], "warnings": [*map(asdict, doubtful)]}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
