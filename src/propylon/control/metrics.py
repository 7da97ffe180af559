"""Serve `GET /metrics`, as OpenMetrics or in Prometheus' own text format."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

__all__ = ["router"]


def router(render: Callable[[str], tuple[bytes, str]]) -> APIRouter:
    """Return the endpoint. `render` returns the text of all metrics, and its media type, for the value of Accept."""
    routes = APIRouter(tags=["monitoring"])

    @routes.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def metrics(request: Request) -> Response:
        text, media_type = render(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    return routes
