"""Check the origins in `cors.origins`. Pure."""

import re

from propylon.config.models.syntax import check_hostname, check_port

__all__ = ["ANY", "check_origin"]

ANY = "*"
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[^\]]*\]|[^:/?#]*)(?::(?P<port>[^/?#]*))?"
    r"(?P<rest>[/?#].*)?",
    re.DOTALL,
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_WILDCARD = "*."


def check_origin(text: str) -> str:
    """Check an origin; return it as browsers send it: lower case, no default port (RFC 6454, 6.1)."""
    if text == ANY:
        return text
    if text.lower() == "null":
        # Every sandboxed frame, data: page and local file has the origin "null", so it is also an attacker's.
        msg = '"null" is the origin of all sandboxed pages, an attacker\'s too; write real origins'
        raise ValueError(msg)
    if "@" in text:
        # Checked first, because the other messages repeat parts of the text, and this may be a password.
        msg = "must be an origin without a user and a password"
        raise ValueError(msg)
    match = _ORIGIN.fullmatch(text.strip().lower())
    if match is None or not match["host"]:
        msg = "must be an origin, a scheme and a host: https://app.example.com"
        raise ValueError(msg)
    origin = f"{match['scheme']}://{_host(match['host'])}{_port(match['scheme'], match['port'])}"
    if match["rest"]:
        msg = f"must be an origin, without a path: write {origin}"
        raise ValueError(msg)
    return origin


def _host(text: str) -> str:
    if not text.isascii():
        # Browsers send international names in their ASCII form, and origins are compared byte for byte.
        msg = f'"{text}" must be written as browsers send it, in ASCII (xn--...)'
        raise ValueError(msg)
    if not text.startswith(_WILDCARD):
        return _hostname(text)
    host = _hostname(text.removeprefix(_WILDCARD))
    if "." not in host:
        msg = f"{text} is a whole top-level domain; write one label more: *.example.{host}"
        raise ValueError(msg)
    return _WILDCARD + host


def _hostname(text: str) -> str:
    if "*" in text:
        msg = f'"{text}": a * stands alone for every origin, or as the first label of a host:'
        msg += " https://*.example.com"
        raise ValueError(msg)
    return check_hostname(text)


def _port(scheme: str, text: str | None) -> str:
    if text is None:
        return ""
    if text == "*":
        msg = 'must have a number as its port, or no port; "*" is not supported there'
        raise ValueError(msg)
    check_port(text)
    # Browsers leave out the default port, so an origin with it would match nothing.
    return "" if _DEFAULT_PORTS.get(scheme) == text else f":{text}"
