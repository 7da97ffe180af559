"""Define how a route obeys Idempotency-Key."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from propylon.config.models.base import ConfigModel
from propylon.config.models.units import Timeout

__all__ = ["IdempotencyConfig"]


class IdempotencyConfig(ConfigModel):
    """How requests with Idempotency-Key are answered: the first one by the service, the same one again by its answer."""

    required: bool = Field(
        default=False,
        description="Refuse requests without a key (400), if they have one of `methods`.",
    )
    ttl: Timeout = Field(
        default=86_400.0,
        description="How long a key and its answer are kept.",
        json_schema_extra={"default": "24h"},
    )
    on_store_failure: Literal["refuse", "forward"] = Field(
        default="refuse",
        description="While keys cannot be kept: refuse requests that have one (503), or forward them as if they had none.",
    )
    methods: tuple[Literal["POST", "PATCH", "PUT", "DELETE"], ...] = Field(
        default=("POST", "PATCH"),
        min_length=1,
        description="Methods whose keys count. Other requests are forwarded as they are.",
    )
