r"""Judge request targets: what may be one, and how a careless upstream would read it. Pure.

What is forwarded is what was sent, byte for byte. The danger is an upstream that reads more into a
path than we do: `/orders/%61dmin`, `/orders/..;/admin` (Tomcat), `/orders\admin` (IIS), `/ADMIN`.
So a path that holds anything which is read differently somewhere is read a second time, as
carelessly as the worst of them would, and must then still lead to the same route.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from propylon.errors import InvalidRequest
from propylon.wire.grammar import BAD_ESCAPE

__all__ = ["careless", "is_plain"]

_SUSPECT = re.compile(rb"[%;\\A-Z]|//|/\.\.?(?:/|\Z)")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PARAMETER = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"/{2,}")
_DOT_SEGMENT = re.compile(rb"/\.\.?(?:/|\Z)")


def is_plain(path: bytes) -> bool:
    """Tell whether everyone reads the path alike, so that one match is enough."""
    return _SUSPECT.search(path) is None


def careless(path: bytes) -> bytes:
    r"""Return the path as a careless upstream would read it.

    Decoded once, `\` as `/`, what follows `;` in a segment dropped, slashes merged, case folded.
    Raises InvalidRequest for an invalid escape, invalid UTF-8 (overlong forms are invalid), a
    control byte or a dot segment, plain or encoded.
    """
    if BAD_ESCAPE.search(path):
        msg = "The path holds an invalid percent escape"
        raise InvalidRequest(msg)
    decoded = unquote_to_bytes(path)
    if _CONTROL.search(decoded):
        msg = "The path holds a control byte"
        raise InvalidRequest(msg)
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
    """Fold the case as all who compare without it would, together.

    Who compares in upper case reads a dotless i as I; casefold alone would keep it apart. And whose lower
    case is one letter for one (Go, .NET, towlower) reads a dotted I as i.
    """
    return text.replace("\u0130", "i").upper().casefold()
