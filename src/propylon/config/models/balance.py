"""Define `balance`: how an instance of a service is chosen."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from propylon.config.models.base import ConfigModel
from propylon.config.models.syntax import check_cookie_name, check_header_name

__all__ = ["Balance", "BalanceConfig"]

_Word = Literal["round_robin", "random", "least_connections"]
_WORDS = get_args(_Word)
_KEYS = ("caller", "ip")
_NAMED = re.compile(r"(header|cookie|query|path|claim):(.+)", re.DOTALL)
# Twice the average is no bound any more for a service of two instances.
_WIDEST = 10.0


def _check_hash(key: str) -> str:
    match = _NAMED.fullmatch(key)
    if key not in _KEYS and match is None:
        msg = f"must be one of {', '.join(_KEYS)}, header:NAME, cookie:NAME, query:NAME, path:NAME, claim:NAME"
        raise ValueError(msg)
    if match is not None and match[1] in _CHECKS:
        _CHECKS[match[1]](match[2])
    return key


def _check_segment(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        msg = f'path:{name} names no segment; write the name that stands in the path of the route, path:id for "/orders/{{id}}"'
        raise ValueError(msg)
    return name


_CHECKS = {"header": check_header_name, "cookie": check_cookie_name, "path": _check_segment}


def _check_bound(value: Any) -> float:
    try:
        bound = float(value)
    except (TypeError, ValueError):
        bound = 0.0
    if isinstance(value, bool) or not 1.0 <= bound <= _WIDEST:
        msg = "must be a number from 1 to 10, such as 1.25: no instance gets more than 1.25 times the average"
        raise ValueError(msg)
    return bound


class BalanceConfig(ConfigModel):
    """How an instance is chosen for each request."""

    by: _Word = Field(
        default="round_robin",
        description="round_robin, random (the less busy one of two that are drawn) or least_connections. `balance: random` is short for"
        " `balance: {by: random}`.",
    )
    hash: Annotated[str, AfterValidator(_check_hash)] | None = Field(
        default=None,
        description="In place of `by`: requests of one key go to one instance. The key is caller, ip, header:NAME, cookie:NAME,"
        " query:NAME, path:NAME (a segment of the route's path) or claim:NAME; the client's address counts where it is missing.",
    )
    bound: Annotated[float, BeforeValidator(_check_bound)] | None = Field(
        default=None,
        description="With hash: no instance has more requests in flight than so many times the average, such as 1.25; those beyond it"
        " go to the next instance of their key. No bound when not set.",
    )

    @field_validator("hash")
    @classmethod
    def _in_place_of_by(cls, key: str | None, info: ValidationInfo) -> str | None:
        if key is not None and info.data.get("by", "round_robin") != "round_robin":
            msg = "a service is balanced by a word or by hash, not both; take `by` out"
            raise ValueError(msg)
        return key

    @field_validator("bound")
    @classmethod
    def _of_a_hash(cls, bound: float | None, info: ValidationInfo) -> float | None:
        if bound is not None and info.data.get("hash", "") is None:
            msg = "is for hash; write the key that requests are sent out by, such as hash: caller"
            raise ValueError(msg)
        return bound

    def __str__(self) -> str:
        """Say it in words, for `explain`."""
        if self.hash is None:
            return self.by
        bound = ["bound", f"{self.bound:g}"] if self.bound is not None else []
        return " ".join(["hash", self.hash, *bound])


def _worded(value: object) -> object:
    # Checked here, so that the problem of a word is shown at `balance`, not at a key `by` that it does not have.
    if not isinstance(value, str):
        return value
    if value not in _WORDS:
        kind: Literal["literal_error"] = "literal_error"
        raise PydanticKnownError(kind, {"expected": ", ".join(f"'{word}'" for word in _WORDS)})
    return {"by": value}


Balance = Annotated[
    BalanceConfig, BeforeValidator(_worded, json_schema_input_type=_Word | BalanceConfig)
]
