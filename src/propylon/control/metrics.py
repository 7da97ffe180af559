"""Serve `GET /metrics` in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

__all__ = ["router"]


def router(render: Callable[[], bytes]) -> APIRouter:
    """Return the endpoint. `render` returns the text of all metrics."""
    routes = APIRouter(tags=["monitoring"])

    @routes.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(render(), media_type=CONTENT_TYPE_LATEST)

    return routes
