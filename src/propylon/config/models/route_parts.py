"""Define the small sections of a route: how its answers are looked at, and its timeouts."""

from pydantic import Field

from propylon.config.models.base import ConfigModel
from propylon.config.models.units import Share, Timeout

__all__ = ["ResponsesConfig", "RouteTimeoutsConfig"]


class ResponsesConfig(ConfigModel):
    """How answers are held against the service's document."""

    sample: Share = Field(
        default=0.0,
        description="Share of the answers that are looked at, after the client has got them. What is not in the document is"
        " counted and logged; nothing happens to the answer. Needs services.X.openapi.",
    )


class RouteTimeoutsConfig(ConfigModel):
    """Timeouts of a route; those that are not set are the service's."""

    connect: Timeout | None = Field(default=None, description="For connecting.")
    first_byte: Timeout | None = Field(default=None, description="For the head of the response.")
    idle: Timeout | None = Field(
        default=None, description="Longest silence within a body, event streams included."
    )
    total: Timeout | None = Field(
        default=None, description="Until the head of the final response, retries included."
    )
    max_duration: Timeout | None = Field(
        default=None, description="For the whole exchange, body included."
    )
