"""Define rate limits: of a route, of a service, or in `defaults`."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel, OneOrMany
from propylon.config.models.syntax import check_header_name
from propylon.config.models.units import Rate, Whole, WrittenRate

__all__ = ["LimitConfig", "Limits"]

DEFAULT_NAME = "default"
# A second. No gateway answers more, and a larger number is a mistake in the unit.
_FASTEST = 1_000_000
_LARGEST = 1_000_000_000
# A year. A burst that takes longer to come back is a mistake in the unit.
_SLOWEST = 366 * 86400
_WORDS = ("caller", "ip", "route", "service")
_NAMED = re.compile(r"(header|claim):(.+)", re.DOTALL)
# Characters that need no quoting in a structured field (RFC 9651, 3.3.3), in a label or in a log.
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


def _check_rate(rate: Rate) -> Rate:
    if rate.amount > _FASTEST * rate.seconds:
        msg = f"is more than {_FASTEST} a second; write a rate that callers can reach"
        raise ValueError(msg)
    return rate


def _check_key(key: str) -> str:
    match = _NAMED.fullmatch(key)
    if key not in _WORDS and match is None:
        msg = f"must be one of {', '.join(_WORDS)}, header:NAME, claim:NAME, or a list of them"
        raise ValueError(msg)
    if match is not None and match[1] == "header":
        check_header_name(match[2])
    return key


def _check_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    if not keys:
        msg = f"is empty; write one of {', '.join(_WORDS)}, header:NAME, claim:NAME"
        raise ValueError(msg)
    return tuple(dict.fromkeys(map(_check_key, keys)))


def _check_charge(charge: str) -> str:
    kind, _, name = charge.partition(":")
    if kind != "header" or not name:
        msg = "must be header:NAME, the header of the service's answer that says what the request has cost"
        raise ValueError(msg)
    check_header_name(name)
    return charge


class LimitConfig(ConfigModel):
    """A limit: how much each key may do."""

    name: str = Field(
        default="",
        pattern=_NAME,
        description="Name in headers, logs and metrics; `default` when not set. In a list, each limit needs its own.",
    )
    rate: Annotated[WrittenRate, AfterValidator(_check_rate)] | None = Field(
        default=None, description="Units in a time, on average. A request costs one unit."
    )
    burst: Annotated[Whole, Field(ge=1, le=_LARGEST)] | None = Field(
        default=None, description="Units at once; the number of the rate when not set."
    )
    window: Literal["bucket", "sliding"] = Field(
        default="bucket",
        description="bucket: it fills at the rate, up to burst; sliding: in any window of the rate's time never more than"
        " its number.",
    )
    key: Annotated[OneOrMany, AfterValidator(_check_keys)] = Field(
        default=("caller",),
        description="Who is counted: caller (the user of the token, else the address), ip, route, service (all clients"
        " together), header:NAME, claim:NAME; or a list, for each combination. The address counts where a header or claim is"
        " missing.",
    )
    ipv6_prefix: Annotated[Whole, Field(ge=16, le=128)] = Field(
        default=64, description="Bits of the network by which an IPv6 client is counted."
    )
    cost: Annotated[Whole, Field(ge=0, le=_LARGEST)] | None = Field(
        default=None,
        description="Units that a request costs before it is forwarded; 0: it passes while anything is left. What `@gateway.cost`"
        " says, or 1, when not set.",
    )
    charge: Annotated[str, AfterValidator(_check_charge)] | None = Field(
        default=None,
        description="header:NAME: units that are spent after the answer, as this header of the service says.",
    )
    in_flight: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Requests of one key at the same time, in each worker."
    )
    mode: Literal["enforce", "shadow"] = Field(
        default="enforce",
        description="shadow: requests over the limit are counted and logged, and not refused.",
        validate_default=True,
    )
    on_store_failure: Literal["local", "open", "closed"] = Field(
        default="local",
        description="While a shared store cannot be reached: local: the machine counts for itself; open: all requests pass;"
        " closed: they get 503.",
    )

    @property
    def label(self) -> str:
        """The name, or the default one."""
        return self.name or DEFAULT_NAME

    @field_validator("burst")
    @classmethod
    def _reachable(cls, burst: int | None, info: ValidationInfo) -> int | None:
        rate = info.data.get("rate")
        if burst is None or "rate" not in info.data:
            return burst
        if rate is None:
            msg = "needs rate beside it"
            raise ValueError(msg)
        if burst * rate.seconds > _SLOWEST * rate.amount:
            msg = f"takes more than a year to come back at {rate}; write less, or a faster rate"
            raise ValueError(msg)
        return burst

    @field_validator("window")
    @classmethod
    def _of_one_number(cls, window: str, info: ValidationInfo) -> str:
        rate, burst = info.data.get("rate"), info.data.get("burst")
        if window == "sliding" and rate is not None and burst not in {None, rate.amount}:
            msg = "`window: sliding` has one number, that of the rate; take burst out"
            raise ValueError(msg)
        return window

    @field_validator("cost")
    @classmethod
    def _affordable(cls, cost: int | None, info: ValidationInfo) -> int | None:
        rate, burst = info.data.get("rate"), info.data.get("burst")
        most = burst if burst is not None or rate is None else rate.amount
        if cost is not None and most is not None and cost > most:
            msg = f"is more than the {most} units that there are at once, so no request would pass; write a larger burst"
            raise ValueError(msg)
        return cost

    @field_validator("in_flight")
    @classmethod
    def _without_rate(cls, in_flight: int | None, info: ValidationInfo) -> int | None:
        data = info.data
        if in_flight is not None and data.get("rate", 0) is None:
            for key in ("cost", "charge"):
                if data.get(key) is not None:
                    msg = f"is the only limit here, and {key} needs a rate; write rate, or take {key} out"
                    raise ValueError(msg)
        return in_flight

    @field_validator("mode")
    @classmethod
    def _limits_something(cls, mode: str, info: ValidationInfo) -> str:
        if info.data.get("rate", 0) is None and info.data.get("in_flight", 0) is None:
            msg = "is a limit without rate and in_flight; write one of them"
            raise ValueError(msg)
        return mode


def _as_list(written: Any) -> Any:
    """Return a list for a single limit, and an empty one for `none`."""
    if written == "none":
        return []
    if isinstance(written, str):
        msg = "must be a limit such as {rate: 10/s}, a list of them, or none"
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return [written] if isinstance(written, dict | LimitConfig) else written


def _named_apart(limits: tuple[LimitConfig, ...]) -> tuple[LimitConfig, ...]:
    if len(limits) > 1 and not all(limit.name for limit in limits):
        msg = "has several limits, so each needs a name; write name: per-second"
        raise ValueError(msg)
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            msg = f'has two limits of the name "{name}"; give each its own'
            raise ValueError(msg)
    return limits


Limits = Annotated[
    tuple[LimitConfig, ...],
    BeforeValidator(
        _as_list, json_schema_input_type=LimitConfig | list[LimitConfig] | Literal["none"]
    ),
    AfterValidator(_named_apart),
]
"""One limit, or a list of them; `none`: none at all."""
