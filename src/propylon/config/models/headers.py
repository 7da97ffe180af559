"""Define `headers`: what a route sets, adds and removes, in both directions."""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from propylon.config.models.base import ConfigModel, CookieName, HeaderName, as_list
from propylon.config.models.syntax import is_host
from propylon.config.models.templates import Template

__all__ = ["HeaderRulesConfig", "HeadersConfig"]

# RFC 9110, 5.3: a second line of one of these makes a message that two readers take for two things.
_SINGLE = frozenset(
    {"host", "authorization", "content-type", "location", "etag", "date", "age", "expires"}
    | {"last-modified", "retry-after", "x-request-id", "traceparent"}
)
_Lines = Annotated[
    tuple[Template, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])
]


class HeaderRulesConfig(ConfigModel):
    """Changes to the headers of a message."""

    set: dict[HeaderName, Template] = Field(
        default_factory=dict,
        description="Headers to set; they replace headers of the same name. {request_id}, {trace_id}, {client_ip}, {user},"
        " {host}, {scheme}, {method}, {path}, {route}, {service}, {claim.NAME}, {path.NAME}, {header.NAME} and {query.NAME} in"
        " a value stand for what they are called, {{ and }} for a brace. A header whose value lacks one is only removed.",
    )
    add: dict[HeaderName, _Lines] = Field(
        default_factory=dict,
        description="Headers to put beside those that are there: a value as in `set`, or a list of them, each on a line.",
    )
    remove: tuple[HeaderName, ...] = Field(
        default=(),
        description="Headers to remove, those that the gateway adds included; of a response also from 1xx answers.",
    )
    remove_cookies: tuple[CookieName, ...] = Field(
        default=(),
        description="Cookies to remove by name: of a request from Cookie, of a response the Set-Cookie lines.",
    )

    @property
    def texts(self) -> list[str]:
        """All values."""
        return [*self.set.values(), *(text for texts in self.add.values() for text in texts)]


class HeadersConfig(ConfigModel):
    """Changes to headers, in both directions."""

    request: HeaderRulesConfig = Field(
        default=HeaderRulesConfig(), description="On the way to the service."
    )
    response: HeaderRulesConfig = Field(
        default=HeaderRulesConfig(), description="On the way to the client."
    )

    @field_validator("request", "response")
    @classmethod
    def _one_line(cls, rules: HeaderRulesConfig) -> HeaderRulesConfig:
        for name in rules.add:
            if name.lower() in _SINGLE:
                msg = f"adds {name}, which a message has once; set it instead"
                raise ValueError(msg)
        return rules

    @field_validator("request")
    @classmethod
    def _host_is_one(cls, rules: HeaderRulesConfig) -> HeaderRulesConfig:
        # RFC 9112, 3.2: a request has exactly one Host, and an upstream answers 400 to any other.
        for name in rules.remove:
            if name.lower() == "host":
                msg = "removes Host, which every request must have; set another one instead"
                raise ValueError(msg)
        for name, value in rules.set.items():
            if name.lower() == "host" and not is_host(value):
                msg = f'sets Host to "{value}", which is no host; write a name or an address, with a port if need be'
                raise ValueError(msg)
        return rules
