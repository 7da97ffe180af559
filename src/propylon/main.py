"""Hold the ASGI app for foreign servers: `uvicorn propylon.main:app`. It is built on first access."""

from __future__ import annotations

import os

from propylon.assembly.gateway import Gateway
from propylon.config.reading.load import load

__all__ = ["app"]  # noqa: F822 — __getattr__ makes it


def __getattr__(name: str) -> object:
    """Build `app` on first access, so that importing this module has no effects (PEP 562)."""
    if name != "app":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    loaded = load(None, os.environ)
    gateway = Gateway(loaded, lambda: load(loaded.path, os.environ))
    globals()["app"] = gateway.asgi
    return gateway.asgi
