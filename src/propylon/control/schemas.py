"""Model what the gateway's own API speaks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Envelope", "ErrorBody", "Health", "Readiness", "ServiceHealth", "Status"]


Status = Literal["healthy", "degraded", "unhealthy"]


class ServiceHealth(BaseModel):
    """How one service answered the last probe."""

    status: Literal["healthy", "degraded", "unhealthy", "unknown"] = Field(
        description="healthy: every instance is well; degraded: some are; unhealthy: none is;"
        " unknown: it has no instance."
    )
    latency_ms: float | None = Field(
        description="Of the fastest instance that is well; null when none is."
    )


class Health(BaseModel):
    """How the gateway and the services behind it are."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "healthy",
                "version": "0.1.0",
                "timestamp": "2026-01-01T00:00:00Z",
                "services": {"orders": {"status": "healthy", "latency_ms": 1.8}},
            }
        }
    )

    status: Status = Field(
        description="degraded: a service is not healthy, or the gateway is not ready for everything;"
        " unhealthy: it is about to stop."
    )
    version: str = Field(description="Of the gateway.")
    timestamp: datetime = Field(description="When the probes ran, UTC.")
    services: dict[str, ServiceHealth] = Field(description="By name; no addresses in it.")


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs.", examples=["NOT_FOUND"])
    message: str = Field(description="For people.", examples=["No route matches this path"])
    details: dict[str, Any] = Field(description="What else is known.", examples=[{}])


class Envelope(BaseModel):
    """Every error of the gateway."""

    error: ErrorBody = Field(description="What went wrong.")
    request_id: str = Field(description="As in X-Request-ID.", examples=["8f14e45fceea167a"])


class Readiness(BaseModel):
    """Whether traffic should be sent here."""

    status: Literal["ready", "waiting", "draining"] = Field(
        description="waiting: not everything can be served yet; draining: about to stop."
    )
    reasons: list[str] | None = Field(
        default=None, serialization_alias="for", description="What it waits for."
    )
