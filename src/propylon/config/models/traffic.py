"""Define how requests are shared out: `split` of a route, among services."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from propylon.config.models.base import ConfigModel
from propylon.config.models.units import Whole

__all__ = ["Split", "SplitConfig"]


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
