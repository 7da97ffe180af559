"""Model what the gateway's own API speaks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Envelope", "ErrorBody", "Health", "ServiceHealth", "Status"]


Status = Literal["healthy", "degraded", "unhealthy"]


class ServiceHealth(BaseModel):
    """How one service answered the last probe."""

    status: Literal["healthy", "unhealthy", "unknown"] = Field(
        description="healthy: an instance answered below 500; unknown: it has no instance."
    )
    latency_ms: float | None = Field(
        description="Of the fastest instance; null when none answered."
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
        description="degraded: a service is not healthy; unhealthy: the gateway cannot serve."
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
