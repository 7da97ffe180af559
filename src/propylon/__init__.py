"""Propylon: an API gateway for teams that write Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from propylon.version import __version__

if TYPE_CHECKING:
    from propylon.assembly import Gateway
    from propylon.proxy.principal import Principal
    from propylon.wire.message import Request

__all__ = ["Gateway", "Principal", "Request", "__version__"]

_HOMES = {
    "Gateway": "propylon.assembly",
    "Principal": "propylon.proxy.principal",
    "Request": "propylon.wire.message",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: `propylon --help` needs no FastAPI."""
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(home), name)
