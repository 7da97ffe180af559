"""Check what a path, a host, a method, a URL, a network, a header may look like. Pure."""

import ipaddress
import re
from dataclasses import dataclass, replace

from propylon.names.addresses import parse_rule
from propylon.proxy.principal import is_listable, is_scope
from propylon.wire.grammar import (
    MAX_PORT,
    QUERY_TEXT,
    SEGMENT_TEXT,
    TOKEN_TEXT,
    VISIBLE_VALUE_TEXT,
    read_port,
)

_NAMED = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_DOTS = re.compile(r"(?:\.|%2[eE]){1,2}")
# Underscores are no host names, but Compose and Docker give them to containers.
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_GLOB = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_*](?:[A-Za-z0-9_.*-]*[A-Za-z0-9_*])?")
_NUMBERS = re.compile(r"[0-9.*]*[0-9][0-9.*]*")
_SRV = "srv+"
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<base>[^?#]*)(?P<rest>.*)",
    re.DOTALL,
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>.*))?", re.DOTALL)
# What says where a message ends or how it travels is the gateway's: set by hand, it is smuggling.
FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# Of the gateway's own endpoints, where the operator names none.
DEFAULT_PREFIX = "/api/v1"
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """The parts of an instance's URL; `base` is "" or starts with a slash and ends without one."""

    scheme: str
    host: str
    port: int
    base: str
    srv: bool = False  # the host is that of an SRV record, which knows the ports


def parse_upstream(text: str) -> UpstreamUrl:
    """Take the URL of a service apart: as `parse_url`, or srv+http://_http._tcp.orders.example."""
    if not text.lower().startswith(_SRV):
        return parse_url(text)
    url = parse_url(text[len(_SRV) :])
    match = _URL.fullmatch(text)
    if match is not None and ":" in match["authority"]:
        msg = "must be a URL without a port: the SRV record says it"
        raise ValueError(msg)
    return replace(url, srv=True)


def parse_url(text: str) -> UpstreamUrl:
    """Take an upstream's URL apart; ValueError says what is wrong and never repeats a password."""
    match = _URL.fullmatch(text)
    if match is None or match["scheme"].lower() not in DEFAULT_PORTS:
        msg = "must be a URL that starts with http:// or https://"
        raise ValueError(msg)
    if match["rest"]:
        msg = "must be a URL without a query and without a fragment"
        raise ValueError(msg)
    scheme = match["scheme"].lower()
    host, port = _authority(match["authority"])
    base = match["base"].rstrip("/")
    if base:
        check_path(base, names=False, what="the path of the URL")
    return UpstreamUrl(scheme, host, DEFAULT_PORTS[scheme] if port is None else port, base)


def _authority(text: str) -> tuple[str, int | None]:
    if "@" in text:
        msg = "must be a URL without a user and a password"
        raise ValueError(msg)
    match = _AUTHORITY.fullmatch(text)
    if match is None or not match["host"]:
        msg = "must be a URL with a host"
        raise ValueError(msg)
    return _host(match["host"]), None if match["port"] is None else check_port(match["port"])


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return ipaddress.IPv6Address(text[1:-1]).compressed
        except ValueError:
            msg = f'"{text}" is no IPv6 address'
            raise ValueError(msg) from None
    if not _HOST.fullmatch(text) or ".." in text:
        msg = f'"{text}" is no host name'
        raise ValueError(msg)
    return text.lower()


def check_port(text: str) -> int:
    """Read a port."""
    port = read_port(text)
    if not port:  # 0 is no port that anything listens on
        msg = f'"{text}" is no port: a number from 1 to {MAX_PORT}'
        raise ValueError(msg)
    return port


def check_url(text: str) -> str:
    """Accept an upstream's URL as it stands."""
    parse_upstream(text)
    return text


def check_document_url(text: str) -> str:
    """Accept the URL of something that the gateway fetches itself; it may have a query."""
    address, mark, query = text.partition("?")
    if "#" in query:
        msg = "must be a URL without a fragment"
        raise ValueError(msg)
    parse_url(address)
    if mark and not QUERY_TEXT.fullmatch(query):
        msg = "has a character in its query that cannot stand there as it is"
        raise ValueError(msg)
    return text


def check_path(text: str, *, names: bool, what: str = "the path") -> str:
    """Accept a path that a request could have; `{name}` only where names may stand."""
    if not text.startswith("/"):
        msg = f'{what} must start with "/"'
        raise ValueError(msg)
    for segment in (segments := text.split("/")[1:]):
        _check_segment(segment, names=names, what=what)
    if "" in segments[:-1]:
        msg = f"{what} has an empty segment (two slashes)"
        raise ValueError(msg)
    return text


def check_prefix(text: str) -> str:
    """Accept what the gateway's own endpoints are below, without a last slash; "" is the root."""
    return check_path(text, names=False).rstrip("/")


def prefix_of(written: object) -> str:
    """Return the prefix that was written; the default where it is missing or wrong.

    For checks that go on after a mistake, so that one wrong prefix is one problem.
    """
    try:
        return check_prefix(written) if isinstance(written, str) else DEFAULT_PREFIX
    except ValueError:
        return DEFAULT_PREFIX


def _check_segment(segment: str, *, names: bool, what: str) -> None:
    if SEGMENT_TEXT.fullmatch(segment):
        if _DOTS.fullmatch(segment):
            msg = f'{what} has the segment "{segment}", which no request may have'
            raise ValueError(msg)
        return
    if "{" in segment or "}" in segment:
        _check_named(segment, names=names, what=what)
        return
    wrong = next(char for char in segment if not SEGMENT_TEXT.fullmatch(char))
    msg = f"{what} has {_said(wrong)}, which cannot stand there as it is"
    raise ValueError(msg)


def _check_named(segment: str, *, names: bool, what: str) -> None:
    if not names:
        msg = f'{what} has "{segment}": names of segments cannot stand here'
        raise ValueError(msg)
    if not _NAMED.fullmatch(segment):
        msg = f'{what} has "{segment}": write {{name}} for one whole segment'
        raise ValueError(msg)


def _said(char: str) -> str:
    if char == "%":
        return '"%" without two hexadecimal digits after it'
    if char.isprintable() and char != " ":
        return f'"{char}"'
    return "a space" if char == " " else f"the character U+{ord(char):04X}"


def shape(path: str) -> str:
    """Write a route's path without its names and a last slash: what two routes must not share."""
    parts = path.rstrip("/").split("/")
    return "/".join("{}" if part.startswith("{") else part for part in parts)


def check_method(text: str) -> str:
    """Accept a method, in upper case as it is sent, or WEBSOCKET."""
    check_token(text, "method")
    if text != text.upper():
        msg = f"methods are written in upper case: {text.upper()}"
        raise ValueError(msg)
    if text in {"CONNECT", "TRACE"}:
        # CONNECT would make an open proxy, TRACE reads headers back to scripts.
        msg = f"{text} is never forwarded"
        raise ValueError(msg)
    return text


def check_hostname(text: str) -> str:
    """Accept the name of a host without a port, in lower case."""
    if "*" in text:
        msg = "must be one host name; wildcards are not supported"
        raise ValueError(msg)
    if ":" in text and not text.startswith("["):
        msg = "must be a host name without a port"
        raise ValueError(msg)
    if text.startswith("["):
        return f"[{_host(text)}]"
    return _host(text)


def check_network(text: str) -> str:
    """Accept a network in CIDR notation, or one address."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        refusal = f'"{text}" is no network: write 10.0.0.0/8, or one address'
    try:
        wider = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(refusal) from None
    msg = f'"{text}" has bits set beyond its prefix; did you mean {wider}?'
    raise ValueError(msg)


def is_network(text: str) -> bool:
    """Tell a network, or an address, from the name of a host."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def check_registrable(text: str) -> str:
    """Accept a network or the name of a host, in lower case, where `*` stands for anything."""
    if is_network(text):
        network = check_network(text)
        if ipaddress.ip_network(network).is_link_local:
            # Where clouds answer with the machine's own credentials.
            msg = f"{text} is link-local, and such addresses are never registered"
            raise ValueError(msg)
        return network
    if not _GLOB.fullmatch(text) or ".." in text:
        msg = f'"{text}" is neither a network (10.0.0.0/8) nor a host name (*.svc.cluster.local)'
        raise ValueError(msg)
    if _NUMBERS.fullmatch(text):
        msg = f'"{text}": networks are written as 10.0.0.0/8, without a *'
        raise ValueError(msg)
    parse_rule(text)  # what reads the list when the gateway starts
    return text.lower()


def check_scope(text: str) -> str:
    """Accept one scope (RFC 6749, 3.3), without the comma that would make two of it in a header."""
    if " " in text.strip():
        msg = f"is one scope an item: write [{', '.join(text.split())}]"
        raise ValueError(msg)
    if not is_scope(text):
        msg = "must be a scope of visible ASCII characters, without a space, a comma, a quote, a backslash"
        raise ValueError(msg)
    return text


def check_role(text: str) -> str:
    """Accept the name of a role, without the comma that would make two of it in a header."""
    if not is_listable(text):
        msg = "must be the name of a role, without a comma, control characters or space at an end"
        raise ValueError(msg)
    return text


def check_token(text: str, what: str) -> str:
    """Accept a token (RFC 9110, 5.6.2): what a header's name or a method is made of."""
    if not TOKEN_TEXT.fullmatch(text):
        msg = f'"{text}" is no {what}'
        raise ValueError(msg)
    return text


def check_header_name(text: str) -> str:
    """Accept a header's name, unless it is one that frames the message."""
    check_token(text, "name of a header")
    if text.lower().replace("_", "-") in FRAMING:
        msg = f"{text} is the gateway's own and cannot be set or removed"
        raise ValueError(msg)
    return text


def check_header_value(text: str) -> str:
    """Accept a header's value: visible ASCII, spaces and tabs (RFC 9110, 5.5)."""
    if not VISIBLE_VALUE_TEXT.fullmatch(text):
        msg = "must be a value of visible ASCII characters, without spaces around it"
        raise ValueError(msg)
    return text
