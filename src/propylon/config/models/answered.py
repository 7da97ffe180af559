"""Define what a route may have besides a service, or in place of one: a fixed answer, a redirect, and whose requests it takes."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel, HeaderName, HeaderValue, Network
from propylon.config.models.syntax import check_url
from propylon.config.models.units import Whole

__all__ = ["QUERY", "REST", "ClientsConfig", "RedirectConfig", "RespondConfig", "placeholders"]

REST, QUERY = "{rest}", "{query}"
_PLACEHOLDER = re.compile(r"\{[^{}/?#]*\}")
# What may stand in a URL behind its host (RFC 3986, 3.3 and 3.4), and the braces of placeholders.
_TARGET = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?#%{}-]*")
_BODILESS = frozenset({204, 205, 304})


def placeholders(to: str) -> list[str]:
    """Return the placeholders of a target, with their braces, in order."""
    return _PLACEHOLDER.findall(to)


def _number_as_text(value: Any) -> Any:
    # `Retry-After: 120` is a number to YAML.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _to(text: str) -> str:
    front, path = text, ""
    if not text.startswith("/"):
        scheme, mark, rest = text.partition("://")
        authority, slash, path = rest.partition("/")
        front, path = f"{scheme}{mark}{authority}", slash + path
        if not mark or scheme not in {"http", "https"} or "{" in authority or not authority:
            msg = "must begin with /, or with http:// or https:// and a host that is written out: no client may choose it"
            raise ValueError(msg)
        check_url(front)
    else:
        path = text
        if text.startswith(("//", "/\\")):
            msg = "begins with two slashes, which is another host to a browser; write https:// and the host"
            raise ValueError(msg)
    _check_target(path)
    return text


def _check_target(path: str) -> None:
    if not _TARGET.fullmatch(path) or "{" in _PLACEHOLDER.sub("", path):
        msg = "has a character that no URL has, or a { without its }"
        raise ValueError(msg)
    if QUERY in path and ("?" in path or "#" in path or not path.endswith(QUERY)):
        msg = "has {query}, which stands for the client's whole query with its ?; write it once, at the end"
        raise ValueError(msg)
    if ".." in re.split(r"[/?#]", path) or "." in re.split(r"[/?#]", path):
        msg = "has a dot segment, which browsers resolve by themselves"
        raise ValueError(msg)


class RespondConfig(ConfigModel):
    """An answer that the gateway gives by itself."""

    status: Annotated[Whole, Field(ge=200, le=599)] = Field(
        default=200,
        description="Its status; 503 with `headers: {Retry-After: 120}` says maintenance.",
    )
    headers: dict[
        HeaderName,
        Annotated[HeaderValue, BeforeValidator(_number_as_text, json_schema_input_type=str | int)],
    ] = Field(
        default_factory=dict,
        description="Its headers. Content-Type is text/plain; charset=utf-8 when not set.",
    )
    body: str = Field(default="", max_length=1_000_000, description="Its body, a text.")

    @field_validator("body")
    @classmethod
    def _fits_status(cls, body: str, info: ValidationInfo) -> str:
        if body and info.data.get("status") in _BODILESS:
            msg = (
                f"an answer with status {info.data['status']} has no body; take one of the two out"
            )
            raise ValueError(msg)
        return body


class RedirectConfig(ConfigModel):
    """An answer that sends the client elsewhere."""

    to: Annotated[str, AfterValidator(_to)] = Field(
        description="Where: a path, or a URL with scheme and host. {name} stands for the segment of that name, {rest} for what is"
        " below the route's path, {query} at the end for the client's query with its question mark."
    )
    status: Literal[301, 302, 303, 307, 308] = Field(
        default=307,
        description="Its status. 301 and 308 are remembered by browsers; 307 and 308 keep the method.",
    )


class ClientsConfig(ConfigModel):
    """Whose requests a route takes, by the address of the client."""

    allow: tuple[Network, ...] = Field(
        default=(),
        description="Networks and addresses of clients; all others get 403. Any when not set. A request that a proxy has forwarded"
        " counts only behind server.trusted_proxies.",
    )
    deny: tuple[Network, ...] = Field(
        default=(), description="Networks and addresses that get 403, also if `allow` has them."
    )
