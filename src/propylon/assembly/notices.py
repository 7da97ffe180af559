"""Log what an operator should know of a configuration when the gateway starts."""

from __future__ import annotations

import logging

from propylon.config.models.endpoints import listeners_of, only_run_obeys
from propylon.config.reading.load import Loaded

__all__ = ["log_notices"]

log = logging.getLogger(__name__)


def log_notices(loaded: Loaded, *, owns_process: bool) -> None:
    """Log the warnings about a configuration, and what of it has no effect where another server runs the process."""
    for warning in loaded.warnings:
        log.warning("%s", warning)
    if owns_process:
        return
    for listener in listeners_of(loaded.config):
        log.warning("nothing listens on %s: only `propylon run` opens it", listener)
    for key in only_run_obeys(loaded.config):
        log.warning("%s: only `propylon run` obeys it; this server has its own", key)
