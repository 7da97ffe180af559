"""Find header names that only look like one that frames the message or says who is asking, and remove them. Pure.

Facts. CGI, WSGI and PHP read `X_User_Id`, `X-User-Id` and (PHP) `X.User.Id` as one variable; other readers drop what they
do not expect in a name. A client that may send `X_User_Id` beside the gateway's own header can name itself
(CVE-2025-64484 in oauth2-proxy), and `Transfer---Encoding` may frame the message for one reader alone.

Rules.

1. Names are compared by their letters alone: whatever else stands in a name, some reader drops it or replaces it.
2. `X-User-*` and the other families have no end that could be compared. There the words must be parted by something that
   is no letter: `X.User.Name` is of the family, `X-Username` is another header.
3. Names with digits in them (`X-Shard-1`), which only operators have, are compared by letters and digits.

Strategy. Nearly no request has such a name. So all values are reduced to letters with the names, in one call, and one
search tells whether a line needs a look at all.
"""

from __future__ import annotations

import re
import string
from collections.abc import Container

from propylon.wire.headers import Special
from propylon.wire.message import LOOKED_AT

__all__ = ["letters", "reduced", "without_framing_lookalikes", "without_lookalikes"]

_LOWER = bytes(range(256)).lower()
_LETTERS = string.ascii_letters.encode()
_NOT_LETTERS = bytes(set(range(256)).difference(_LETTERS))
_NOT_ALNUM = bytes(set(range(256)).difference(_LETTERS, string.digits.encode()))
# The ends of lines and of names stay.
_NOT_NAMES = bytes(set(_NOT_LETTERS).difference(b"\n:"))

# The headers of `request`, by their letters. `origin` and `dnt` say nothing about who is asking, and a single word has
# no other spelling that a reader would take for it; those of framing and identity are here all the same.
_KNOWN = (
    rb"host|connection|contentlength|transferencoding|te|trailer|upgrade|expect|keepalive|proxy"
    rb"|forwarded|maxforwards|traceparent|tracestate|authorization|accesscontrolrequestmethod"
    rb"|accesscontrolrequestheaders|secgpc|xprivacylevel|xrequestid|xrealip|xoriginalurl|xrewriteurl"
    rb"|xhttpmethodoverride"
    # Of the families, those that mean something to the gateway or to common frameworks.
    rb"|xuser(?:id|email|roles|scopes|issuer)"
    rb"|xforwarded(?:for|proto|host|port|prefix|server|ssl|scheme|by|user|email|groups)"
)
_KNOWN_LETTERS = re.compile(_KNOWN)
_SUSPECT = re.compile(
    rb"\n(?:" + _KNOWN + rb"|(?:proxy|xuser|xforwarded|xclientcert)[a-z]*):",
)
_FAMILY = re.compile(
    rb"[^a-z]*(?:proxy|x[^a-z]+(?:user|forwarded|client[^a-z]+cert))[^a-z]+.*",
)
# Spelled as they should be: `request` has taken these out already, where they must not pass.
_EXACT = re.compile(rb"(?:proxy|x-(?:user|forwarded|client-cert))-.*")


def letters(name: bytes) -> bytes:
    """Return the letters of a name, in lower case."""
    return name.translate(_LOWER, _NOT_LETTERS)


def reduced(name: bytes) -> bytes:
    """Return the letters and digits of a name, in lower case."""
    return name.translate(_LOWER, _NOT_ALNUM)


def without_framing_lookalikes(block: bytes, special: Special) -> bytes:
    """Return the block, from which the headers in `special` were taken, without the lines that look like these."""
    found = _SUSPECT.findall(block.translate(_LOWER, _NOT_NAMES))
    # Those that stay in the block by right: a request with a token has one of them.
    if not found or len(found) == sum(len(special.get(name, ())) for name in _STAYING):
        return block
    lines = block.split(b"\r\n")
    return b"\r\n".join([line for line in lines if not _is_lookalike(line.partition(b":")[0])])


_STAYING = LOOKED_AT - {b"origin"}


def _is_lookalike(name: bytes) -> bool:
    name = name.lower()
    if name in LOOKED_AT:
        return False
    if _KNOWN_LETTERS.fullmatch(letters(name)):
        return True
    return _FAMILY.fullmatch(name) is not None and _EXACT.fullmatch(name) is None


def without_lookalikes(block: bytes, names: Container[bytes]) -> bytes:
    """Return the block without the lines whose name, `reduced`, is one of these."""
    lines = block.split(b"\r\n")
    return b"\r\n".join([line for line in lines if reduced(line.partition(b":")[0]) not in names])
