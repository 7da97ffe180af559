"""Say what an operator should know of a configuration when the gateway starts."""

from __future__ import annotations

from collections.abc import Iterator

from propylon.config.models.endpoints import listeners_of, only_run_obeys
from propylon.config.reading.load import Loaded

__all__ = ["notices"]


def notices(loaded: Loaded, *, owns_process: bool) -> Iterator[str]:
    """Yield the warnings about a configuration, and what of it has no effect where another server runs the process."""
    yield from map(str, loaded.warnings)
    if owns_process:
        return
    for listener in listeners_of(loaded.config):
        yield f"nothing listens on {listener}: only `propylon run` opens it"
    for key in only_run_obeys(loaded.config):
        yield f"{key}: only `propylon run` obeys it; this server has its own"
