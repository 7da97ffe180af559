"""Build the FastAPI app that holds the gateway's own endpoints, and a team's."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI

from propylon.control.errors import enveloped
from propylon.control.head import HeadAsGet
from propylon.control.schemas import Envelope

__all__ = ["create_app"]


def create_app(version: str, routers: Iterable[APIRouter]) -> FastAPI:
    """Return the app; its errors have the gateway's envelope."""
    app = FastAPI(
        title="Propylon",
        summary="The gateway's own API.",
        version=version,
        responses={"default": {"model": Envelope, "description": "An error."}},
    )
    for router in routers:
        app.include_router(router)
    enveloped(app)
    app.add_middleware(HeadAsGet)
    return app
