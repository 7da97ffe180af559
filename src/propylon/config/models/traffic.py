"""Define how requests are shared out: `split` of a route, among services; and `queue` of a service, where they wait."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from propylon.config.models.base import ConfigModel
from propylon.config.models.units import Timeout, Whole

__all__ = ["QueueConfig", "ServiceQueue", "Split", "SplitConfig"]


class SplitConfig(ConfigModel):
    """One of the services that a route's requests are shared out among."""

    service: str = Field(min_length=1, description="The service.")
    weight: Annotated[Whole, Field(ge=0, le=1_000_000)] = Field(
        default=1,
        description="Its share, beside the weights of the others: 95 and 5 are 95 % and 5 %. 0: none of the requests that may"
        " go anywhere.",
    )


def _shares(split: tuple[SplitConfig, ...]) -> tuple[SplitConfig, ...]:
    if split and not any(part.weight for part in split):
        msg = "has only weights of 0, so no request could go anywhere; give one of the services a weight"
        raise ValueError(msg)
    if twice := _repeated(part.service for part in split):
        msg = f'names the service "{twice}" twice; write one weight for it'
        raise ValueError(msg)
    return split


def _repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


Split = Annotated[tuple[SplitConfig, ...], Field(min_length=1), AfterValidator(_shares)]


class QueueConfig(ConfigModel):
    """Where requests wait while all instances of a service have as many as they may have."""

    size: Annotated[Whole, Field(ge=0, le=65535)] = Field(
        default=100,
        description="Most requests that wait, in each worker; one more is 503. 0: none waits.",
    )
    timeout: Timeout = Field(
        default=1.0,
        description="How long a request waits; then it is 503. timeouts.total covers it.",
    )


def _before_places(queue: QueueConfig, info: ValidationInfo) -> QueueConfig:
    if info.data.get("max_in_flight", 0) is None:
        msg = "is for max_in_flight, which says when requests wait; write it, such as max_in_flight: 64"
        raise ValueError(msg)
    return queue


ServiceQueue = Annotated[QueueConfig, AfterValidator(_before_places)]
"""The queue of a service; `max_in_flight` stands before it."""
