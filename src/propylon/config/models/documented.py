"""Define how a route holds requests and answers against the OpenAPI document of its service."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from propylon.config.models.base import ConfigModel
from propylon.config.models.units import Share

__all__ = ["Requests", "ResponsesConfig"]


def _off(value: Any) -> Any:
    # YAML 1.1 reads `off` as false.
    return "off" if value is False else value


Requests = Annotated[
    Literal["off", "shadow", "validate"],
    BeforeValidator(_off, json_schema_input_type=Literal["off", "shadow", "validate"]),
]


class ResponsesConfig(ConfigModel):
    """How answers are held against the service's document."""

    sample: Share = Field(
        default=0.0,
        description="Share of the answers that are looked at, after the client has got them. What is not in the document is"
        " counted and logged; nothing happens to the answer. Needs services.X.openapi.",
    )
