"""Recognise header names that only look like one that frames the message or says who is asking. Pure.

Facts. CGI, WSGI and PHP read `X_User_Id`, `X-User-Id` and (PHP) `X.User.Id` as one variable; other readers drop what they
do not expect in a name. A client that may send `X_User_Id` beside the gateway's own header can name itself
(CVE-2025-64484 in oauth2-proxy), and `Transfer---Encoding` may frame the message for one reader alone.

Rules.

1. Names are compared by their letters alone: whatever else stands in a name, some reader drops it or replaces it.
2. `X-User-*` and the other families have no end that could be compared. There the words must be parted by something that
   is no letter: `X.User.Name` is of the family, `X-Username` is another header.
3. Names with digits in them (`X-Shard-1`), which only operators have, are compared by letters and digits.

Strategy. The pattern is a part of the one with which `request` searches a head: no line is looked at a second time. It is
grouped by first letters, so that nearly every line fails at its first byte.
"""

from __future__ import annotations

import string
from collections.abc import Container, Iterable
from itertools import groupby

__all__ = ["LOOKALIKE", "letters", "reduced", "without_lookalikes"]

_LOWER = bytes(range(256)).lower()
_LETTERS = string.ascii_letters.encode()
_NOT_LETTERS = bytes(set(range(256)).difference(_LETTERS))
_NOT_ALNUM = bytes(set(range(256)).difference(_LETTERS, string.digits.encode()))

# The headers of `request` by their letters, but for `origin` and `dnt`, which say nothing about who is asking. Of the
# families, those that the gateway sends itself or that common frameworks believe.
_KNOWN = (
    "host",
    "connection",
    "contentlength",
    "transferencoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keepalive",
    "proxy",
    "proxyauthenticate",
    "proxyauthorization",
    "proxyconnection",
    "forwarded",
    "maxforwards",
    "traceparent",
    "tracestate",
    "authorization",
    "accesscontrolrequestmethod",
    "accesscontrolrequestheaders",
    "secgpc",
    "xprivacylevel",
    "xrequestid",
    "xrealip",
    "xoriginalurl",
    "xrewriteurl",
    "xhttpmethodoverride",
    "xuserid",
    "xuseremail",
    "xuserroles",
    "xuserscopes",
    "xuserissuer",
    "xforwardedfor",
    "xforwardedproto",
    "xforwardedhost",
    "xforwardedport",
    "xforwardedprefix",
    "xforwardedserver",
    "xforwardedssl",
    "xforwardedscheme",
    "xforwardedby",
    "xforwardeduser",
    "xforwardedemail",
    "xforwardedgroups",
)
_FAMILIES = ("proxy", "x user", "x forwarded", "x client cert")
# Spelled as it should be, this one is for `request` to judge.
_JUDGED_ELSEWHERE = "(?!x-client-cert-)"


def _spelled(names: Iterable[str]) -> str:
    """Return the pattern of names, with anything but letters between their letters; the first letter stands once."""
    groups = groupby(sorted(names), key=lambda name: name[0])
    return "|".join(f"{first}(?:{'|'.join(map(_rest, group))})" for first, group in groups)


def _rest(name: str) -> str:
    return "".join(f"{_OTHER}*+{letter}" for letter in name[1:])


_OTHER = r"[^a-z:\r]"  # what is no letter and does not end the name
_parted = "|".join(
    f"{_OTHER}++".join(family.split()) + rf"{_OTHER}++[^:\r]*+" for family in _FAMILIES
)
# The names in a block in lower case, from the end of the line before to the colon; put behind the names themselves.
LOOKALIKE = (
    rf"{_OTHER}*+(?:(?:{_spelled(_KNOWN)}){_OTHER}*+|{_JUDGED_ELSEWHERE}(?:{_parted}))".encode()
)


def letters(name: bytes) -> bytes:
    """Return the letters of a name, in lower case."""
    return name.translate(_LOWER, _NOT_LETTERS)


def reduced(name: bytes) -> bytes:
    """Return the letters and digits of a name, in lower case."""
    return name.translate(_LOWER, _NOT_ALNUM)


def without_lookalikes(block: bytes, names: Container[bytes]) -> bytes:
    """Return the block without the lines whose name, `reduced`, is one of these."""
    lines = block.split(b"\r\n")
    return b"\r\n".join([line for line in lines if reduced(line.partition(b":")[0]) not in names])
