"""Define the keys about the public address: the Host that a service gets, and what its answers say of addresses."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from propylon.config.models.base import ConfigModel
from propylon.config.models.syntax import check_hostname, check_port, parse_url

__all__ = ["CookiesConfig", "PublicUrl", "SentHost"]


def check_sent_host(text: str) -> str:
    """Check `upstream`, `client`, or a host name with or without a port; return it in lower case."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return check_hostname(text)
    return f"{check_hostname(host)}:{check_port(port)}"


def check_public_url(text: str) -> str:
    """Check the address under which clients reach the gateway: scheme, host and port, no path."""
    if parse_url(text).base:
        msg = "must be a URL without a path, such as https://api.example.com"
        raise ValueError(msg)
    return text.rstrip("/")


def check_cookie_domain(text: str) -> str:
    """Check `pass`, `rewrite`, or the domain to write."""
    return check_hostname(text.removeprefix("."))


SentHost = Annotated[str, AfterValidator(check_sent_host)]
PublicUrl = Annotated[
    str, AfterValidator(check_public_url), Field(json_schema_extra={"format": "uri"})
]
CookieDomain = Annotated[str, AfterValidator(check_cookie_domain)]


class CookiesConfig(ConfigModel):
    """What is changed in the cookies that a service sets. A cookie whose name begins with `__Host-` is never changed."""

    path: Literal["pass", "rewrite"] = Field(
        default="pass",
        description="rewrite: the cookie's Path becomes the public one, with the stripped prefix put back.",
    )
    domain: CookieDomain = Field(
        default="pass",
        description="rewrite: a Domain that is the service's own host is taken away, so that the cookie is for the host"
        " that the client asked. Or a domain to write instead of the one that the service sent.",
    )
