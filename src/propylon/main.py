"""Hold the ASGI app for foreign servers: `uvicorn propylon.main:app`. It is built on first access."""

from __future__ import annotations

import os
import sys

from propylon.assembly.gateway import Gateway
from propylon.config.reading.load import load
from propylon.config.reading.problems import ConfigError

__all__ = ["app"]  # noqa: F822 — __getattr__ makes it

# Exit status. Gunicorn starts no further worker after a 3, and uvicorn itself ends with it when an app does not start.
_UNUSABLE = 3


def __getattr__(name: str) -> object:
    """Build `app` on first access, so that importing this module has no effects (PEP 562)."""
    if name != "app":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        loaded = load(None, os.environ)
        gateway = Gateway(loaded, lambda: load(loaded.path, os.environ))
    except ConfigError as error:
        # The few lines that `propylon run` prints, and not forty of a traceback above them.
        sys.stderr.write(f"{error}\n")
        raise SystemExit(_UNUSABLE) from None
    gateway.asgi.stands_alone = True
    globals()["app"] = gateway.asgi
    return gateway.asgi
