"""Serve `DELETE {prefix}/cache`: let go of stored answers, by their route, their path or their tag."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import APIRouter, Query, Request

from propylon.control.admin import AdminGate
from propylon.control.audit import AuditTrail
from propylon.errors import InvalidFields, ServiceUnavailable

__all__ = ["Purge", "router"]


class Purge(Protocol):
    """Lets go of the answers that fit all that is said, in all workers."""

    async def __call__(self, *, route: str | None, path: str | None, tag: str | None) -> None:
        """Return when it is done. Raises ServiceUnavailable."""


def router(
    prefix: str,
    purge: Callable[[], Purge | None],
    gate: AdminGate | None = None,
    trail: AuditTrail | None = None,
) -> APIRouter:
    """Return the endpoint. `purge` returns what lets go of answers; None: the gateway has not started."""
    routes = APIRouter(tags=["services"])
    audited = trail or AuditTrail()

    @routes.delete(
        f"{prefix}/cache",
        status_code=204,
        summary="Delete stored answers",
        dependencies=[(gate or AdminGate()).requires("cache")],
    )
    async def delete(
        request: Request,
        route: Annotated[str | None, Query(min_length=1, description="Of this route.")] = None,
        path: Annotated[
            str | None,
            Query(pattern="^/", description="Of this path: of all hosts, queries and callers."),
        ] = None,
        tag: Annotated[
            str | None,
            Query(min_length=1, description="With this tag in Cache-Tag."),
        ] = None,
    ) -> None:
        """Delete the answers that fit all that is said; at least one of the three has to be said."""
        said = {"route": route, "path": path, "tag": tag}
        target = " ".join(f"{name}:{value}" for name, value in said.items() if value is not None)
        with audited.of(request, "cache.purge", target or None):
            if not target:
                msg = "Say what is to be deleted: route, path or tag"
                raise InvalidFields(msg, details={"fields": {"route": msg}})
            chosen = purge()
            if chosen is None:
                msg = "The gateway has not started"
                raise ServiceUnavailable(msg)
            await chosen(route=route, path=path, tag=tag)

    return routes
