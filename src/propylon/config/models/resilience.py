"""Model what a service is spared and spares its clients: retries, breaker, probes, ejection."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel, PlainPath
from propylon.config.models.spelling import did_you_mean
from propylon.config.models.units import Duration, Share, Timeout, Whole, parse_whole

__all__ = ["TRIGGERS", "CircuitConfig", "EjectionConfig", "HealthConfig", "RetryConfig"]

# A timeout is not among the defaults: whoever waited 30 s has seldom patience for 30 more.
TRIGGERS = ("connect-failure", "reset", "timeout")


def _trigger(value: object) -> str | int:
    if isinstance(value, str) and value in TRIGGERS:
        return value
    try:
        status = parse_whole(value)
    except ValueError:
        status = 0
    # A 4xx says that the request is wrong, and it would be just as wrong elsewhere.
    if not 500 <= status <= 599:
        hint = did_you_mean(value, TRIGGERS) if isinstance(value, str) else ""
        msg = f"must be one of {', '.join(TRIGGERS)}, or a status from 500 to 599{hint}"
        raise ValueError(msg)
    return status


_Triggers = Literal["connect-failure", "reset", "timeout"] | Annotated[int, Field(ge=500, le=599)]
Trigger = Annotated[str | int, BeforeValidator(_trigger, json_schema_input_type=_Triggers)]
AtLeastOne = Annotated[Whole, Field(ge=1, le=1_000_000_000)]
SecondOrMore = Annotated[Duration, Field(ge=1.0)]


class RetryConfig(ConfigModel):
    """When a request is sent again. Only before a byte of the answer has reached the client."""

    attempts: Annotated[Whole, Field(ge=1, le=10)] = Field(
        default=3, description="How often a request is sent at most, the first time counted."
    )
    backoff: Timeout = Field(default=0.1, description="The pause before the second attempt.")
    max_backoff: Timeout = Field(default=2.0, description="The longest pause; they double.")
    on: tuple[Trigger, ...] = Field(
        default=("connect-failure", "reset", 502, 503, 504),
        description="What is tried again: connect-failure, reset, timeout, or a 5xx status; when not set,"
        " connect-failure, reset, 502, 503, 504.",
    )
    budget: Share = Field(
        default=0.2,
        description="Most retries, as a share of the last ten seconds' requests; ten more are free.",
    )
    non_idempotent: bool = Field(
        default=False,
        description="True: POST and PATCH too, though an instance may have acted already.",
    )

    @field_validator("max_backoff")
    @classmethod
    def _in_order(cls, longest: float, info: ValidationInfo) -> float:
        if longest < info.data.get("backoff", 0.0):
            msg = "must not be shorter than backoff"
            raise ValueError(msg)
        return longest

    @property
    def statuses(self) -> frozenset[int]:
        """The statuses of an upstream that are tried again."""
        return frozenset(trigger for trigger in self.on if isinstance(trigger, int))

    @property
    def kinds(self) -> frozenset[str]:
        """The failures to get an answer that are tried again."""
        return frozenset(trigger for trigger in self.on if isinstance(trigger, str))


class CircuitConfig(ConfigModel):
    """When a service's requests are refused at once, because those before them failed."""

    failure_threshold: AtLeastOne = Field(
        default=5, description="Failures within failure_window that open the breaker."
    )
    failure_window: SecondOrMore = Field(default=120.0, description="How long a failure counts.")
    min_throughput: AtLeastOne = Field(
        default=5, description="Requests within failure_window below which it stays closed."
    )
    recovery_timeout: SecondOrMore = Field(
        default=60.0, description="How long it stays open before it lets probes pass."
    )
    half_open_timeout: SecondOrMore = Field(
        default=30.0, description="A probe that has not been answered by then has failed."
    )
    probes: AtLeastOne = Field(
        default=1, description="Requests that must succeed before it closes again."
    )


class HealthConfig(ConfigModel):
    """How instances are probed."""

    path: PlainPath = Field(
        default="/health",
        description="The path that is asked for with GET. Where `health` is written, a 2xx is"
        " healthy, and only healthy instances get requests; elsewhere probes inform /health only.",
    )
    # A probe is a request like any other to the instance: a hundred a second are an attack.
    interval: Annotated[Timeout, Field(ge=0.01)] = Field(
        default=30.0, description="From one probe of an instance to the next."
    )
    timeout: Timeout = Field(default=1.0, description="How long an answer may take.")
    healthy_after: AtLeastOne = Field(
        default=1, description="Probes in a row that must succeed before an instance is healthy."
    )
    unhealthy_after: AtLeastOne = Field(
        default=1, description="Probes in a row that must fail before an instance is unhealthy."
    )


class EjectionConfig(ConfigModel):
    """When an instance that fails while others work is left out for a while."""

    failures: AtLeastOne = Field(
        default=5, description="Failures in a row after which an instance is left out."
    )
    time: Timeout = Field(
        default=30.0, description="For how long, the first time; each further time longer."
    )
    max: Share = Field(
        default=0.5,
        description="Share of the instances that may be left out at a time; 0% is none.",
    )
