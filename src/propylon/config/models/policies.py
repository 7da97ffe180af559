"""Define the section `policies`: what the code of a team may take."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from propylon.config.models.base import ConfigModel
from propylon.config.models.units import Duration

__all__ = ["PoliciesConfig"]


def _off(value: Any) -> Any:
    # YAML 1.1 reads `off` as false: the operator may have written that from habit.
    return None if value is False or value == "off" else value


class PoliciesConfig(ConfigModel):
    """What the code of a team may take: its policies, its endpoints, and whatever else it runs in the gateway."""

    budget: Annotated[
        Annotated[Duration, Field(ge=0.01)] | None,
        BeforeValidator(_off, json_schema_input_type=str | float | bool | None),
    ] = Field(
        default=0.05,
        description="How long code may hold the event loop, which serves nobody meanwhile. Code that holds it for longer is named"
        " in the log with its stack, and counted; it is not stopped. off: nobody looks.",
    )
