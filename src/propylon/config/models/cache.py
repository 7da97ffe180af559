"""Define the cache of a route, and how much memory all of them may take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from propylon.config.models.base import ConfigModel, HeaderName
from propylon.config.models.jwt import Blank
from propylon.config.models.units import Duration, Size, Timeout, Whole
from propylon.wire.grammar import QUERY_TEXT

__all__ = ["Cache", "CacheConfig", "CacheMemoryConfig", "CacheStore"]

_SMALLEST = 1_000_000
_SHORTEST_SECRET = 32


def _check_by(by: str) -> str:
    if by not in {"caller", "everyone"} and not (by.startswith("claim:") and by[len("claim:") :]):
        msg = f'is "{by}"; write caller, everyone, or a claim such as claim:tenant'
        raise ValueError(msg)
    return by


def _check_parameter(name: str) -> str:
    if QUERY_TEXT.fullmatch(name) is None or not {"&", "="}.isdisjoint(name) or name in {"", "*"}:
        msg = f'has "{name}", which is no name of a parameter; write names as they stand in a URL, * for any letters: utm_*'
        raise ValueError(msg)
    return name


Status = Annotated[Whole, Field(ge=200, le=599)]


class CacheConfig(ConfigModel):
    """What is kept of the answers of a route, for how long, and for whom.

    Where the service speaks (Cache-Control, Expires, ETag, Last-Modified, Vary, Age, Surrogate-Control,
    CDN-Cache-Control), it decides, as RFC 9111 has it. What it forbids is never stored: no-store, private, Set-Cookie,
    `Vary: *`.
    """

    ttl: Duration | None = Field(
        default=None,
        description="How long an answer is fresh that says nothing of it. When not set: a tenth of the time since"
        " Last-Modified, and nothing without one.",
    )
    respect: bool = Field(
        default=True,
        description="False: ttl stands over max-age and Expires; never over no-store, private, Set-Cookie or `Vary: *`.",
    )
    by: Annotated[str, AfterValidator(_check_by)] = Field(
        default="caller",
        description="Who shares answers. caller: nobody; anonymous requests without a cookie share theirs. everyone: all"
        " whom the route lets in. claim:NAME: all callers with the same value of a claim.",
        json_schema_extra={"examples": ["caller", "everyone", "claim:tenant"]},
    )
    vary: tuple[HeaderName, ...] = Field(
        default=(),
        description="Headers of a request that choose the answer, besides those in Vary.",
    )
    methods: tuple[Literal["GET", "HEAD"], ...] = Field(
        default=("GET", "HEAD"),
        min_length=1,
        description="Methods that the cache answers. HEAD is answered from the answer to a GET.",
    )
    statuses: tuple[Status, ...] = Field(
        default=(),
        description="Statuses that ttl is for, besides 200, 203, 301 and 308: 404, for instance.",
    )
    ignore_query: tuple[Annotated[str, AfterValidator(_check_parameter)], ...] = Field(
        default=(),
        description="Parameters of the query that do not change the answer: [utm_*]. The service still gets them.",
    )
    max_object: Size = Field(
        default=1_000_000, description="Largest body that is stored; a larger one is passed on."
    )
    stale_while_revalidate: Duration = Field(
        default=0.0,
        description="How long a stale answer is still served while the gateway asks for a new one, where the service does not"
        " say it.",
    )
    stale_if_error: Duration = Field(
        default=0.0,
        description="How long a stale answer is still served while the service fails, where the service does not say it.",
    )
    wait: Timeout = Field(
        default=5.0,
        description="How long requests wait for another one that asks for the same; then they ask for themselves.",
    )

    @model_validator(mode="after")
    def _needs_ttl(self) -> CacheConfig:
        if not self.respect and self.ttl is None:
            msg = "has `respect: false` without a ttl that could stand over what the service says; write ttl: 30s"
            raise ValueError(msg)
        return self

    @field_validator("max_object")
    @classmethod
    def _something(cls, size: int) -> int:
        if size < 1:
            msg = "must be at least one byte"
            raise ValueError(msg)
        return size


class NoCacheConfig(CacheConfig):
    """Stands for `none`: false, and otherwise what nobody looks at."""

    def __bool__(self) -> bool:
        """Say that there is no cache."""
        return False


_NONE = NoCacheConfig()


def _none_is_off(written: Any) -> Any:
    if written == "none":
        return _NONE
    if isinstance(written, str | bool | int | float):
        msg = "must be the rules of a cache, such as {ttl: 30s}, or none"
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return written


Cache = Annotated[
    CacheConfig,
    BeforeValidator(_none_is_off, json_schema_input_type=CacheConfig | Literal["none"]),
]
"""The rules of a cache; `none`: there is none, whatever `defaults` say."""


def _long_enough(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and len(secret.get_secret_value()) < _SHORTEST_SECRET:
        msg = "is shorter than 32 characters; write what `openssl rand -hex 32` prints"
        raise ValueError(msg)
    return secret


class CacheMemoryConfig(ConfigModel):
    """Where answers are kept that routes with `cache` store."""

    memory: Annotated[Size, Field(ge=_SMALLEST)] = Field(
        default=64_000_000,
        description="Bytes in the memory of each worker. What is asked for least often leaves when it is full.",
    )
    store: Literal["memory", "machine", "redis"] | None = Field(
        default=None,
        description="What stands behind the memory of the workers. machine: a file in memory that all workers share. redis:"
        " the section `redis`, which machines share. memory: nothing. When not set: machine, if there are several workers.",
    )
    size: Annotated[Size, Field(ge=_SMALLEST)] = Field(
        default=256_000_000,
        description="Bytes of all answers in the machine's file; a quarter of the free room at most.",
    )
    secret: Annotated[SecretStr | None, Blank, AfterValidator(_long_enough)] = Field(
        default=None,
        description="Signs the answers in Redis, so that no other program that may write there can put one in. All"
        " gateways need the same.",
    )


def _with_a_redis(cache: CacheMemoryConfig, info: ValidationInfo) -> CacheMemoryConfig:
    redis = info.data.get("redis")
    if cache.store == "redis" and redis is not None and redis.url is None:
        msg = "has `store: redis`, and there is no Redis; write redis: redis://HOST, or store: machine"
        raise ValueError(msg)
    return cache


CacheStore = Annotated[CacheMemoryConfig, AfterValidator(_with_a_redis)]
"""The section `cache`: it may name the section `redis`, which stands before it."""
