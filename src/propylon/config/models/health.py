"""Define `health` of a service: how its instances are probed."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from propylon.config.models.base import ConfigModel, HeaderName, HeaderValue, Method, PlainPath
from propylon.config.models.resilience import AtLeastOne
from propylon.config.models.units import Timeout, Whole
from propylon.errors import InvalidRequest
from propylon.wire.target import host_name

__all__ = ["HealthConfig"]

_STATUS = r"[2-5][0-9]{2}"
_STATUSES = re.compile(rf"({_STATUS})(?:-({_STATUS}))?")
_HTTP_ONLY = ("path", "method", "host", "headers", "status", "body")


def _statuses(value: object) -> object:
    """Return a list for a single status or range."""
    if value in ([], ()):
        msg = "is empty; leave the key out for 200-299"
        raise ValueError(msg)
    return list(value) if isinstance(value, list | tuple) else [value]


def _status(value: object) -> str:
    match = _STATUSES.fullmatch(str(value))
    if match is None or isinstance(value, bool) or int(match[1]) > int(match[2] or match[1]):
        msg = "must be a status or a range of them: 204, or 200-399"
        raise ValueError(msg)
    return match[0]


_StatusText = Annotated[
    str,
    BeforeValidator(
        _status,
        json_schema_input_type=Annotated[int, Field(ge=200, le=599)]
        | Annotated[str, Field(pattern=rf"^{_STATUS}(-{_STATUS})?$")],
    ),
]
Statuses = Annotated[
    tuple[_StatusText, ...],
    BeforeValidator(_statuses, json_schema_input_type=_StatusText | list[_StatusText]),
]


def _host(text: str) -> str:
    try:
        host_name(text.encode("ascii", "replace"))
    except InvalidRequest as error:
        msg = f'"{text}" is no Host: write a host name, and a port if it is not the usual one'
        raise ValueError(msg) from error
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text.encode())
    except re.error as error:
        msg = f"is no regular expression: {error}"
        raise ValueError(msg) from None
    return text


def _probing_method(method: str) -> str:
    if method == "WEBSOCKET":
        msg = "is no method of a probe: write GET or HEAD"
        raise ValueError(msg)
    return method


class HealthConfig(ConfigModel):
    """Active health checks: how instances are probed."""

    type: Literal["http", "tcp"] = Field(
        default="http",
        description="http: a request is sent, and its answer decides. tcp: it is enough that a connection can be opened, by"
        " TLS where the URL is https.",
    )
    path: PlainPath = Field(
        default="/health",
        description="The path of the probe. If the section `health` is written, 2xx is healthy, and only"
        " healthy instances get requests. Without it, probes only inform /health.",
    )
    method: Annotated[Method, AfterValidator(_probing_method)] = Field(
        default="GET", description="The method of the probe; it has no body."
    )
    host: Annotated[str, Field(min_length=1), AfterValidator(_host)] | None = Field(
        default=None,
        description="The header Host of the probe. When not set, the one that requests to the instance have.",
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, description="Further headers of the probe: {Authorization: Bearer …}."
    )
    status: Statuses = Field(
        default=("200-299",),
        description="Statuses of a healthy instance: one, a range such as 200-399, or a list of them.",
    )
    body: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_pattern)] | None = (
        Field(
            default=None,
            description="A regular expression that must match somewhere in the first 64 KiB of the answer's body.",
        )
    )
    port: Annotated[Whole, Field(ge=1, le=65535)] | None = Field(
        default=None, description="Another port of the same host, where the probe is sent."
    )
    # To the instance a probe is a request like any other: more than a hundred a second would be an attack.
    interval: Annotated[Timeout, Field(ge=0.01)] = Field(
        default=30.0, description="Time between two probes of an instance."
    )
    timeout: Timeout = Field(default=1.0, description="How long the answer to a probe may take.")
    healthy_after: AtLeastOne = Field(
        default=1, description="Probes in a row that must succeed before an instance is healthy."
    )
    unhealthy_after: AtLeastOne = Field(
        default=1, description="Probes in a row that must fail before an instance is unhealthy."
    )

    @field_validator("headers")
    @classmethod
    def _no_host(cls, headers: dict[str, str]) -> dict[str, str]:
        names = [name.lower() for name in headers]
        if "host" in names:
            msg = "Host has a key of its own: write it as host"
            raise ValueError(msg)
        if len(set(names)) != len(names):
            msg = "a header is listed twice: upper and lower case are the same"
            raise ValueError(msg)
        return headers

    @field_validator("body")
    @classmethod
    def _has_a_body(cls, body: str | None, info: ValidationInfo) -> str | None:
        if body is not None and info.data.get("method") == "HEAD":
            msg = "cannot match: the answer to HEAD has no body; write method: GET"
            raise ValueError(msg)
        return body

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> Self:
        unused = [key for key in _HTTP_ONLY if key in self.model_fields_set]
        if self.type == "tcp" and unused:
            msg = f"with type: tcp no request is sent, so {', '.join(unused)} would do nothing; take it away"
            raise ValueError(msg)
        return self

    @property
    def statuses(self) -> frozenset[int]:
        """All statuses of a healthy instance."""
        ends = [text.partition("-") for text in self.status]
        return frozenset(
            status
            for first, _, last in ends
            for status in range(int(first), int(last or first) + 1)
        )
