"""Define the timeouts of a route."""

from pydantic import Field

from propylon.config.models.base import ConfigModel
from propylon.config.models.units import Timeout

__all__ = ["RouteTimeoutsConfig"]


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
