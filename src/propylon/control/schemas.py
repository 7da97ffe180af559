"""Define the response models of the health endpoints, and the error envelope."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = ["Envelope", "ErrorBody", "Health", "Readiness", "ServiceHealth", "Status"]


_ERROR: dict[str, JsonValue] = {
    "code": "NOT_FOUND",
    "message": "No route matches this path",
    "details": {},
}

Status = Literal["healthy", "degraded", "unhealthy"]


class ServiceHealth(BaseModel):
    """The health of a service, by the last probes of its instances."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"status": "healthy", "latency_ms": 1.8}}
    )

    status: Literal["healthy", "degraded", "unhealthy", "unknown"] = Field(
        description="healthy: every instance is healthy; degraded: some are; unhealthy: none is;"
        " unknown: the service has no instance."
    )
    latency_ms: float | None = Field(
        description="The latency of the fastest healthy instance; null if none is healthy."
    )


class Health(BaseModel):
    """The health of the gateway and the services behind it."""

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
        description="degraded: a service is not healthy, or the gateway cannot serve every route yet;"
        " unhealthy: the gateway is draining, and will stop."
    )
    version: str = Field(description="The version of the gateway.")
    timestamp: datetime = Field(
        description="The time of this answer, in UTC. The probes are at most about a second older."
    )
    services: dict[str, ServiceHealth] = Field(
        description="The health of each service, by its name. It contains no addresses."
    )


class ErrorBody(BaseModel):
    """What went wrong, for programs and for people."""

    model_config = ConfigDict(json_schema_extra={"example": _ERROR})

    code: str = Field(description="A fixed word, for programs.", examples=["NOT_FOUND"])
    message: str = Field(
        description="A sentence, for people.", examples=["No route matches this path"]
    )
    details: dict[str, Any] = Field(
        description="Further facts, such as the invalid fields.", examples=[{}]
    )


class Envelope(BaseModel):
    """The form of every error answer of the gateway."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"error": _ERROR, "request_id": "8f14e45fceea167a"}}
    )

    error: ErrorBody = Field(description="What went wrong.")
    request_id: str = Field(
        description="The id of the request, as in X-Request-ID and in the log.",
        examples=["8f14e45fceea167a"],
    )


class Readiness(BaseModel):
    """Whether a load balancer should send traffic here."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ready"}})

    status: Literal["ready", "waiting", "draining"] = Field(
        description="waiting: the gateway cannot serve every route yet; draining: the gateway will stop."
    )
    reasons: list[str] | None = Field(
        default=None, serialization_alias="for", description="What the gateway still waits for."
    )
