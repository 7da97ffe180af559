"""Check the syntax of paths, hosts, methods, URLs, networks, headers, scopes and roles. Pure.

Each check returns the value in the form that is used, or raises ValueError with a message for the operator. No
message repeats a password.
"""

import ipaddress
import re
from dataclasses import dataclass, replace

from propylon.config.models.unix_socket import check_socket
from propylon.errors import InvalidRequest
from propylon.names.addresses import parse_rule
from propylon.proxy.principal import is_listable, is_scope
from propylon.services.admission import split_ports
from propylon.wire.grammar import (
    MAX_PORT,
    QUERY_TEXT,
    SEGMENT_TEXT,
    TOKEN_TEXT,
    VISIBLE_VALUE_TEXT,
    read_port,
)
from propylon.wire.lookalikes import letters
from propylon.wire.target import host_name

_NAMED = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
# Nearly all paths look like this. One match of the whole path is cheaper than one for each segment.
_USUAL = re.compile(r"(?:/[A-Za-z0-9_-]+)+")
_USUAL_NAMED = re.compile(rf"(?:/(?:[A-Za-z0-9_-]+|{_NAMED.pattern}))+")
_NAME_OF_SEGMENT = re.compile(r"(?<![^/])\{[^/]*")
_USUAL_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"}
)
_DOTS = re.compile(r"(?:\.|%2[eE]){1,2}")
# Underscores are not allowed in host names, but Docker and Compose put them into the names of containers.
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_GLOB = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_*](?:[A-Za-z0-9_.*-]*[A-Za-z0-9_*])?")
_NUMBERS = re.compile(r"[0-9.*]*[0-9][0-9.*]*")
_SRV = "srv+"
_UNIX = "unix:"
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<base>[^?#]*)(?P<rest>.*)",
    re.DOTALL,
)
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>.*))?", re.DOTALL)
# These headers frame the message or control the connection. Set by hand, they would let one request be read as two
# (request smuggling).
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
# Look-alikes as well: they would not pass from a client either.
_FRAMING_LETTERS = frozenset(letters(name.encode("ascii")) for name in FRAMING)
# Of the gateway's own endpoints, where the operator names none.
DEFAULT_PREFIX = "/api/v1"
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """The parts of an instance's URL; `base` is empty, or starts with a slash and ends without one."""

    scheme: str
    host: str
    port: int
    base: str
    srv: bool = False  # the host is the name of an SRV record, which has the ports
    socket: str = ""  # the path of a Unix socket, in place of host and port


def parse_upstream(text: str) -> UpstreamUrl:
    """Parse the URL of an instance: as `parse_url`, or with SRV as in srv+http://_http._tcp.orders.example.

    Or a Unix socket, with a base path behind a second colon: unix:/run/app.sock:/base, as nginx writes it.
    ws:// and wss:// are understood as http:// and https://: a socket begins as a request.
    """
    if text.lower().startswith(_UNIX):
        path, _, base = text[len(_UNIX) :].partition(":")
        base = base.rstrip("/")
        if base:
            check_path(base, names=False, what="the path behind the second colon")
        # An application must get a Host (RFC 9110, 7.2). Nearly all of those that check it let this one pass.
        return UpstreamUrl("unix", "localhost", 0, base, socket=check_socket(path))
    if is_socket_url(text):
        return parse_url("http" + text[2:])
    if not text.lower().startswith(_SRV):
        return parse_url(text)
    url = parse_url(text[len(_SRV) :])
    match = _URL.fullmatch(text)
    if match is not None and ":" in match["authority"]:
        msg = "must be a URL without a port: the SRV record says it"
        raise ValueError(msg)
    return replace(url, srv=True)


def is_socket_url(text: str) -> bool:
    """Tell whether a URL is written with the scheme of WebSockets (RFC 6455, 3)."""
    return text.lower().startswith(("ws://", "wss://"))


def parse_url(text: str) -> UpstreamUrl:
    """Parse an http or https URL without userinfo, query and fragment. Raises ValueError."""
    match = _URL.fullmatch(text)
    if match is None or match["scheme"].lower() not in DEFAULT_PORTS:
        msg = "must be a URL that starts with http:// or https://"
        raise ValueError(msg)
    if match["authority"].lower() == _UNIX:
        msg = f"is a Unix socket: write {_UNIX}{match['base']}, without {match['scheme']}://"
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
    """Return the port as a number. Raises ValueError."""
    port = read_port(text)
    if not port:  # nothing can listen on port 0
        msg = f'"{text}" is no port: a number from 1 to {MAX_PORT}'
        raise ValueError(msg)
    return port


def check_url(text: str) -> str:
    """Check the URL of an instance; return it unchanged."""
    parse_upstream(text)
    return text


def check_document_url(text: str) -> str:
    """Check the URL of a document that the gateway fetches; a query is allowed. Return it unchanged."""
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
    """Check a path: absolute, no empty or dot segments, only valid characters; `{name}` only if `names`."""
    if (_USUAL_NAMED if names else _USUAL).fullmatch(text):
        return text
    if not text.startswith("/"):
        msg = f'{what} must start with "/"'
        raise ValueError(msg)
    for segment in (segments := text.split("/")[1:]):
        _check_segment(segment, names=names, what=what)
    if "" in segments[:-1]:
        msg = f"{what} has an empty segment (two slashes)"
        raise ValueError(msg)
    return text


def check_listen(text: str) -> str:
    """Check where to listen: an address or a host name, and a port; return it with the host in lower case."""
    match = _AUTHORITY.fullmatch(text)
    if match is None or not match["host"] or match["port"] is None:
        msg = f'"{text}" must be a host and a port, such as 127.0.0.1:8001'
        raise ValueError(msg)
    return f"{check_hostname(match['host'])}:{check_port(match['port'])}"


def parse_listen(text: str) -> tuple[str, int]:
    """Return the host, without brackets, and the port of what `check_listen` has accepted."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


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
    msg = f"{what} has {_quoted(wrong)}, which cannot stand there as it is"
    raise ValueError(msg)


def _check_named(segment: str, *, names: bool, what: str) -> None:
    if not names:
        msg = f'{what} has "{segment}": names of segments cannot stand here'
        raise ValueError(msg)
    if not _NAMED.fullmatch(segment):
        msg = f'{what} has "{segment}": write {{name}} for one whole segment'
        raise ValueError(msg)


def _quoted(char: str) -> str:
    if char == "%":
        return '"%" without two hexadecimal digits after it'
    if char.isprintable() and char != " ":
        return f'"{char}"'
    return "a space" if char == " " else f"the character U+{ord(char):04X}"


def shape(path: str) -> str:
    """Return a route's path without the names in `{}` and without a last slash, to compare it with others'."""
    return _NAME_OF_SEGMENT.sub("{}", path.rstrip("/"))


def check_method(text: str) -> str:
    """Check a method in upper case, or WEBSOCKET."""
    if text in _USUAL_METHODS:
        return text
    check_token(text, "method")
    if text != text.upper():
        msg = f"methods are written in upper case: {text.upper()}"
        raise ValueError(msg)
    if text in {"CONNECT", "TRACE"}:
        # CONNECT would make the gateway an open proxy. TRACE returns the request's headers, cookies included.
        msg = f"{text} is never forwarded"
        raise ValueError(msg)
    return text


def check_hostname(text: str) -> str:
    """Check a host name or address without a port; return it in lower case."""
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
    """Check a network in CIDR notation, or a single address."""
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
    """Tell whether a text is a network or an address, and not a host name."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def check_registrable(text: str) -> str:
    """Check a network, or a host name in which `*` stands for anything, and its ports; return names in lower case."""
    host, ports = split_ports(text)
    checked = _check_registrable_host(host)
    return checked if ports is None else f"{_bracketed(checked)}:{ports}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _check_registrable_host(text: str) -> str:
    if is_network(text):
        network = check_network(text)
        if ipaddress.ip_network(network).is_link_local:
            # 169.254.169.254 is the metadata service of clouds, which gives out the machine's credentials.
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
    """Check a scope (RFC 6749, 3.3) without a comma: upstreams get scopes joined by commas."""
    if " " in text.strip():
        msg = f"must be one scope for each item: write [{', '.join(text.split())}]"
        raise ValueError(msg)
    if not is_scope(text):
        msg = "must be a scope of visible ASCII characters, without a space, a comma, a quote, a backslash"
        raise ValueError(msg)
    return text


def check_role(text: str) -> str:
    """Check a role: any printable text without a comma, since upstreams get roles joined by commas."""
    if not is_listable(text):
        msg = "must be the name of a role, without a comma, control characters or space at an end"
        raise ValueError(msg)
    return text


def check_token(text: str, what: str) -> str:
    """Check a token (RFC 9110, 5.6.2): the characters of methods and header names."""
    if not TOKEN_TEXT.fullmatch(text):
        msg = f'"{text}" is no {what}'
        raise ValueError(msg)
    return text


def check_cookie_name(text: str) -> str:
    """Check the name of a cookie (RFC 6265, 4.1.1): a token."""
    return check_token(text, "name of a cookie")


def check_header_name(text: str) -> str:
    """Check the name of a header that the operator sets or removes: not one that frames the message."""
    check_token(text, "name of a header")
    if letters(text.encode("ascii")) in _FRAMING_LETTERS:
        msg = f"{text} is the gateway's own and cannot be set or removed"
        raise ValueError(msg)
    return text


def is_host(text: str) -> bool:
    """Whether a text is what a Host header may hold (RFC 9110, 7.2)."""
    try:
        host_name(text.encode("ascii"))
    except InvalidRequest:
        return False
    return True


def check_header_value(text: str) -> str:
    """Check a header value: visible ASCII, spaces and tabs, no spaces at the ends (RFC 9110, 5.5)."""
    if not VISIBLE_VALUE_TEXT.fullmatch(text):
        msg = "must be a value of visible ASCII characters, without spaces around it"
        raise ValueError(msg)
    return text
