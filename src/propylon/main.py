"""The ASGI app for other servers: `uvicorn propylon.main:app`. Built when it is first asked for."""

from __future__ import annotations

import os

from propylon.assembly.gateway import Gateway
from propylon.config.reading.load import load

__all__ = ["app"]  # noqa: F822 — made below


def __getattr__(name: str) -> object:
    """Build `app` on first access: importing this module has no effects (PEP 562)."""
    if name != "app":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    loaded = load(None, os.environ)
    gateway = Gateway(loaded, lambda: load(loaded.path, os.environ))
    globals()["app"] = gateway.asgi
    return gateway.asgi
