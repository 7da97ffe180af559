"""Define how a service fails well: retries, circuit breaker, ejection; `health` has the health checks."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel
from propylon.config.models.spelling import did_you_mean
from propylon.config.models.units import Duration, Share, Timeout, Whole, parse_whole

__all__ = [
    "TRIGGERS",
    "AdaptiveConcurrency",
    "AtLeastOne",
    "CircuitConfig",
    "EjectionConfig",
    "HedgeConfig",
    "RetryConfig",
]

# `timeout` is not among the defaults: a client that has waited 30 s seldom waits for 30 more.
TRIGGERS = ("connect-failure", "reset", "timeout")


def _trigger(value: object) -> str | int:
    if isinstance(value, str) and value in TRIGGERS:
        return value
    try:
        status = parse_whole(value)
    except ValueError:
        status = 0
    # A 4xx means that the request is wrong, and every instance would say so.
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
    """When a request is sent again; only before a byte of the answer has reached the client."""

    attempts: Annotated[Whole, Field(ge=1, le=10)] = Field(
        default=3, description="Most attempts of a request, the first one included."
    )
    backoff: Timeout = Field(default=0.1, description="The pause before the second attempt.")
    max_backoff: Timeout = Field(
        default=2.0, description="The longest pause. The pauses double, and half of each is random."
    )
    on: tuple[Trigger, ...] = Field(
        default=("connect-failure", "reset", 502, 503, 504),
        description="What is retried: connect-failure, reset, timeout, or a 5xx status. When not set:"
        " connect-failure, reset, 502, 503, 504.",
    )
    budget: Share = Field(
        default=0.2,
        description="Retry budget: most retries as a share of the requests of the last ten seconds, plus ten.",
    )
    non_idempotent: bool = Field(
        default=False,
        description="True: POST and PATCH are retried, too, although an instance may have acted on them already.",
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
        """The statuses in `on`."""
        return frozenset(trigger for trigger in self.on if isinstance(trigger, int))

    @property
    def kinds(self) -> frozenset[str]:
        """The other triggers in `on`: connect-failure, reset, timeout."""
        return frozenset(trigger for trigger in self.on if isinstance(trigger, str))


class CircuitConfig(ConfigModel):
    """The circuit breaker: when requests to a failing service are refused at once."""

    failure_threshold: AtLeastOne = Field(
        default=5, description="Failures within failure_window that open the breaker."
    )
    failure_rate: Annotated[Share, Field(gt=0.0)] = Field(
        default=0.5,
        description="The breaker opens only if failures are also at least this share of the requests within"
        " failure_window. With 1%, the number of failures decides nearly alone.",
    )
    failure_window: SecondOrMore = Field(
        default=120.0, description="How long a failure is counted."
    )
    min_throughput: AtLeastOne = Field(
        default=5, description="With fewer requests within failure_window the breaker stays closed."
    )
    recovery_timeout: SecondOrMore = Field(
        default=60.0, description="How long the breaker stays open before probes may pass."
    )
    half_open_timeout: SecondOrMore = Field(
        default=30.0, description="A probe that takes longer has failed."
    )
    probes: AtLeastOne = Field(
        default=1, description="Requests that must succeed as probes before the breaker closes."
    )


class EjectionConfig(ConfigModel):
    """Ejection (outlier detection): when a failing instance gets no requests for a while."""

    failures: AtLeastOne = Field(
        default=5, description="Failed requests in a row after which an instance is ejected."
    )
    time: Timeout = Field(
        default=30.0,
        description="How long the first ejection lasts; each further one is longer, up to ten times.",
    )
    max: Share = Field(
        default=0.5,
        description="Share of the instances that may be ejected at once; 0% switches ejection off.",
    )


class HedgeConfig(ConfigModel):
    """When a GET or HEAD that takes long is sent a second time, to another instance."""

    after: Timeout = Field(
        description="How long the first request has for the head of its answer. A good value is what 95 % of the answers need."
    )
    budget: Share = Field(
        default=0.1,
        description="Most second requests as a share of the GETs and HEADs of the last ten seconds, plus ten.",
    )


class AdaptiveConcurrencyConfig(ConfigModel):
    """A limit of the requests that wait for a service, which the gateway finds by itself."""

    min: AtLeastOne = Field(default=5, description="The limit never falls below.")
    max: AtLeastOne = Field(
        default=1000, validate_default=True, description="The limit never rises above."
    )

    @field_validator("max")
    @classmethod
    def _above_min(cls, most: int, info: ValidationInfo) -> int:
        if most < info.data.get("min", 1):
            msg = "must not be less than min"
            raise ValueError(msg)
        return most


def _switch(written: Any) -> Any:
    if isinstance(written, bool):
        return AdaptiveConcurrencyConfig() if written else None
    if isinstance(written, str | int | float):
        msg = "must be true or false, or a mapping such as {min: 5, max: 1000}"
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return written


AdaptiveConcurrency = Annotated[
    AdaptiveConcurrencyConfig | None,
    BeforeValidator(_switch, json_schema_input_type=AdaptiveConcurrencyConfig | bool),
    Field(
        description="True, or between which numbers: the gateway finds out how many requests the service can work on, and refuses"
        " those beyond (503). Each worker finds its own limit."
    ),
]
"""The limit of a service; None: there is none."""
