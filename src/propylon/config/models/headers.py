"""Define `headers`: what a route sets and removes, in both directions."""

from pydantic import Field, field_validator

from propylon.config.models.base import ConfigModel, CookieName, HeaderName, HeaderValue
from propylon.config.models.syntax import is_host

__all__ = ["HeaderRulesConfig", "HeadersConfig"]


class HeaderRulesConfig(ConfigModel):
    """Changes to the headers of a message."""

    set: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, description="Headers to set; they replace headers of the same name."
    )
    remove: tuple[HeaderName, ...] = Field(
        default=(),
        description="Headers to remove, those that the gateway adds included; of a response also from 1xx answers.",
    )
    remove_cookies: tuple[CookieName, ...] = Field(
        default=(),
        description="Cookies to remove by name: of a request from Cookie, of a response the Set-Cookie lines.",
    )


class HeadersConfig(ConfigModel):
    """Changes to headers, in both directions."""

    request: HeaderRulesConfig = Field(
        default=HeaderRulesConfig(), description="On the way to the service."
    )
    response: HeaderRulesConfig = Field(
        default=HeaderRulesConfig(), description="On the way to the client."
    )

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
