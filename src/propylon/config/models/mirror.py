"""Define the mirror of a route: a service that gets copies of its requests."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from propylon.config.models.base import ConfigModel
from propylon.config.models.units import Share, Size, Whole

__all__ = ["Mirror", "MirrorConfig"]


class MirrorConfig(ConfigModel):
    """Which service gets copies, and of how much. Its answers are thrown away."""

    service: str = Field(min_length=1, description="The service that gets the copies.")
    share: Share = Field(default=1.0, description="The share of the requests that are copied.")
    max_body: Size = Field(
        default=64_000,
        description="Largest body that is copied. A request with a larger one has no copy.",
    )
    max_in_flight: Annotated[Whole, Field(ge=1, le=65535)] = Field(
        default=100,
        description="Most copies that wait for their answers, in each worker. Further requests have no copy meanwhile.",
    )

    @field_validator("share")
    @classmethod
    def _some(cls, share: float) -> float:
        if not share:
            msg = "is nothing; write mirror: none to copy no request"
            raise ValueError(msg)
        return share


def _none_is_off(written: Any) -> Any:
    if written == "none":
        return None
    if isinstance(written, str | bool | int | float):
        msg = "must say which service gets copies, such as {service: NAME}, or none"
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return written


Mirror = Annotated[
    MirrorConfig | None,
    BeforeValidator(_none_is_off, json_schema_input_type=MirrorConfig | Literal["none"]),
    Field(
        description="Another service gets copies of the requests that go to this route's; none: no service does, whatever"
        " `defaults` say."
    ),
]
"""The mirror of a route; None: there is none."""
