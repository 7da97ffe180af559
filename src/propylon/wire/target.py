r"""Judge hosts, and request paths: tell those that every upstream reads alike, read others as a careless one. Pure.

Facts. The gateway forwards a path as the client sent it, byte for byte. Upstreams disagree on what a path means:
most decode `%61`, Tomcat drops `;x` from a segment, IIS reads a backslash as a slash, nginx merges `//`, many compare
without regard to case. So `/orders/%61dmin`, `/orders/..;/admin` or `/ADMIN` may reach what `/admin` protects.

Strategy. A path without any such character is matched once (nearly all requests). Any other path is read a second time
as the most careless upstream would, and must lead to the same route both times. Normalizing the path instead would
break signatures of URLs and identifiers with `%2F` in them.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from propylon.errors import InvalidRequest
from propylon.wire.grammar import BAD_ESCAPE, HOST, MAX_PORT

__all__ = ["careless", "host_name", "is_plain"]

# What is read differently somewhere: an escape, a parameter, a backslash, a capital, an empty or a
# dot segment.
_SUSPECT = re.compile(rb"[%;\\A-Z]|//|/\.\.?(?:/|\Z)")
# `%00` ends the path for an upstream in C; `%0d%0a` is a new line in a log, or in a header built
# from the path.
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# Parameters of a segment (RFC 3986, 3.3). Tomcat and Jetty drop them before they look for dot
# segments.
_PARAMETER = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"/{2,}")
# RFC 3986, 5.2.4. No client needs to send one: browsers resolve them first.
_DOT_SEGMENT = re.compile(rb"/\.\.?(?:/|\Z)")


def is_plain(path: bytes) -> bool:
    """Tell whether every upstream reads the path alike, so that one match is enough."""
    return _SUSPECT.search(path) is None


def careless(path: bytes) -> bytes:
    r"""Return the path as a careless upstream would read it, in UTF-8.

    Escapes are decoded once, `\` becomes `/`, parameters (`;x`) are dropped, slashes merged, and case is folded.
    Raises InvalidRequest (400) for an invalid escape, invalid UTF-8, a control byte or a dot segment, plain or encoded.
    """
    if BAD_ESCAPE.search(path):
        msg = "The path holds an invalid percent escape"
        raise InvalidRequest(msg)
    # Once: an upstream that decodes twice would take `%2561` for `a`, and an id with a literal
    # `%61` in it for another.
    decoded = unquote_to_bytes(path)
    if _CONTROL.search(decoded):
        msg = "The path holds a control byte"
        raise InvalidRequest(msg)
    # Overlong forms (`%c0%af` for a slash) are invalid UTF-8: old decoders accepted them
    # (CVE-2000-0884 in IIS).
    try:
        text = decoded.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = "The path is not valid UTF-8"
        raise InvalidRequest(msg) from error
    read = _PARAMETER.sub(b"", _folded(text).encode().replace(b"\\", b"/"))
    read = _SLASHES.sub(b"/", read)
    if _DOT_SEGMENT.search(read):
        msg = "The path holds a dot segment"
        raise InvalidRequest(msg)
    return read


def _folded(text: str) -> str:
    """Fold the case so that two texts are equal if any usual comparison without regard to case calls them equal."""
    # An upstream that compares upper-case texts reads a dotless i (U+0131) as I; `casefold` alone
    # would keep it apart. One whose lower case maps letter to letter (Go, .NET, towlower) reads a
    # dotted I (U+0130) as i.
    return text.replace("\u0130", "i").upper().casefold()


@lru_cache(maxsize=256)
def host_name(host: bytes) -> bytes:
    """Return the name in a Host, in lower case and without its port. Raises InvalidRequest."""
    # Cached, because connections repeat few hosts, and bounded, because clients choose them.
    match = HOST.fullmatch(host)
    if match is None or (match["port"] and int(match["port"]) > MAX_PORT):
        msg = "The Host header is malformed"
        raise InvalidRequest(msg)
    # RFC 1034, 3.1: the name with a dot at its end is the same name.
    name = match["name"].lower().removesuffix(b".")
    # No name has an empty label (RFC 1035, 2.3.1). An upstream that drops it would see the host of
    # another route.
    if not name or b".." in b".%b." % name:
        msg = "The Host header is malformed"
        raise InvalidRequest(msg)
    return name
