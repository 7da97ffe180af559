"""Define the fallback of a route: what answers while its service fails."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.answered import RespondConfig
from propylon.config.models.base import ConfigModel
from propylon.config.models.spelling import did_you_mean
from propylon.config.models.units import parse_whole

__all__ = ["FALLBACK_KINDS", "Fallback", "FallbackConfig"]

# That the service answers with 502 is an answer: who wants another one instead says so (as with Spring's `statusCodes`).
FALLBACK_KINDS = (
    "open-circuit",
    "unavailable",
    "connect-failure",
    "reset",
    "bad-response",
    "timeout",
)


def _failure(value: object) -> str | int:
    if isinstance(value, str) and value in FALLBACK_KINDS:
        return value
    try:
        status = parse_whole(value)
    except ValueError:
        status = 0
    if not 400 <= status <= 599:
        hint = did_you_mean(value, FALLBACK_KINDS) if isinstance(value, str) else ""
        msg = f"must be one of {', '.join(FALLBACK_KINDS)}, or a status from 400 to 599{hint}"
        raise ValueError(msg)
    return status


_Failures = (
    Literal["open-circuit", "unavailable", "connect-failure", "reset", "bad-response", "timeout"]
    | Annotated[int, Field(ge=400, le=599)]
)


class FallbackConfig(ConfigModel):
    """What answers while the service of a route fails: what the cache has, another service, or a fixed answer."""

    on: tuple[
        Annotated[str | int, BeforeValidator(_failure, json_schema_input_type=_Failures)], ...
    ] = Field(
        default=FALLBACK_KINDS,
        min_length=1,
        description="What counts as a failure, after all retries. open-circuit: the breaker refuses; unavailable: no instance may be"
        " asked, or none has room; connect-failure, reset, bad-response, timeout: the service did not answer; or a status"
        " from 400 to 599, with which it answered. When not set: all of these but the statuses.",
    )
    stored: bool = Field(
        default=False,
        description="True: the last answer that the route's cache has for the same request, however old. Without one, the"
        " other key here answers.",
    )
    service: str = Field(default="", description="Another service, which gets the request instead.")
    respond: RespondConfig | None = Field(
        default=None, validate_default=True, description="A fixed answer."
    )

    @field_validator("respond")
    @classmethod
    def _one_answer(
        cls, respond: RespondConfig | None, info: ValidationInfo
    ) -> RespondConfig | None:
        if respond is not None and info.data.get("service"):
            msg = "a fallback has service or respond, not both"
            raise ValueError(msg)
        if respond is None and not (info.data.get("service") or info.data.get("stored")):
            msg = "nothing answers; write service: NAME, respond: {status: 503}, or stored: true"
            raise ValueError(msg)
        return respond

    @property
    def kinds(self) -> frozenset[str]:
        """The failures in `on` that are no answers."""
        return frozenset(one for one in self.on if isinstance(one, str))

    @property
    def statuses(self) -> frozenset[int]:
        """The statuses in `on`."""
        return frozenset(one for one in self.on if isinstance(one, int))


def _none_is_off(written: Any) -> Any:
    if written == "none":
        return None
    if isinstance(written, str | bool | int | float):
        msg = "must say what answers, such as {service: NAME}, or none"
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return written


Fallback = Annotated[
    FallbackConfig | None,
    BeforeValidator(_none_is_off, json_schema_input_type=FallbackConfig | Literal["none"]),
    Field(
        description="What answers while the service fails, before the first byte of an answer; none: nothing does, whatever"
        " `defaults` say."
    ),
]
"""The fallback of a route; None: there is none."""
