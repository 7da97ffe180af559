"""Serve `GET /metrics`, as OpenMetrics or in Prometheus' own text format."""

from __future__ import annotations

from collections.abc import Callable, Generator

from fastapi import APIRouter, Request, Response

from propylon.loop.slices import in_slices

__all__ = ["router"]


def router(rendering: Callable[[str], Generator[None, None, tuple[bytes, str]]]) -> APIRouter:
    """Return the endpoint. `rendering` makes, in slices, the text of all metrics and its media type for the value of Accept."""
    routes = APIRouter(tags=["monitoring"])

    @routes.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    async def metrics(request: Request) -> Response:
        text, media_type = await in_slices(rendering(request.headers.get("accept", "")))
        return Response(text, media_type=media_type)

    return routes
