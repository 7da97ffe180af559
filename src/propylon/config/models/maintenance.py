"""Define the maintenance of a route: the gateway answers by itself, and the service gets no request."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from propylon.config.models.base import ConfigModel, HeaderValue, Network
from propylon.config.models.units import Duration, Whole, is_false, is_true

__all__ = ["Maintenance", "MaintenanceConfig"]


class MaintenanceConfig(ConfigModel):
    """What clients get while a route is under maintenance."""

    retry_after: Duration = Field(
        default=60.0, description="Retry-After of the answer: when clients should come again."
    )
    status: Annotated[Whole, Field(ge=400, le=599)] = Field(
        default=503, description="Status of the answer."
    )
    body: str = Field(
        default="",
        max_length=1_000_000,
        description="Body of the answer, a text such as a page in HTML. When not set: an error as everywhere, with the code"
        " MAINTENANCE.",
    )
    content_type: HeaderValue = Field(
        default="text/plain; charset=utf-8", description="Content-Type of `body`."
    )
    allow: tuple[Network, ...] = Field(
        default=(),
        description="Networks and addresses of clients that reach the service all the same, such as those who do the work.",
    )


def _switch(written: Any) -> Any:
    # Text, too: PROPYLON_DEFAULTS__MAINTENANCE=true.
    if isinstance(written, bool | str):
        if is_true(written):
            return MaintenanceConfig()
        if is_false(written):
            return None
    if isinstance(written, str | int | float):
        msg = "must be true or false, or a mapping such as {retry_after: 10m}"
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return written


Maintenance = Annotated[
    MaintenanceConfig | None,
    BeforeValidator(_switch, json_schema_input_type=MaintenanceConfig | bool),
    Field(
        description="True, or what the answer is: this route is under maintenance. Clients get 503 before anybody looks at a"
        " token, and the service gets no request."
    ),
]
"""The maintenance of a route; None: it is in service."""
