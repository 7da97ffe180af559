"""Make the endpoints that show what the gateway does, the page among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastapi import APIRouter

from propylon.assembly.watch.watching import Watching
from propylon.config.models.schema import GatewayConfig
from propylon.control import dashboard, live, operations
from propylon.control.admin import AdminGate
from propylon.control.audit import AuditTrail
from propylon.version import __version__

__all__ = ["watch_routers"]


def watch_routers(
    begun: GatewayConfig,
    running: Callable[[], Watching | None],
    issues: Callable[[], bool],
    gate: AdminGate,
    trail: AuditTrail,
) -> Iterator[APIRouter]:
    """Yield them. `running` returns what shows, `issues` tells whether the gateway gives out tokens."""
    yield live.router(begun.prefix, running, gate, trail)
    yield operations.router(begun.prefix, running, gate, trail)
    if begun.dashboard.path is not None:
        yield dashboard.router(begun.dashboard.path, __version__, begun.prefix, issues)
