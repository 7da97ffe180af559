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
a tree of letters: what several names begin with is looked at once, and nearly every line fails at its first byte.
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
    "xpropylonexplain",
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
_FAMILIES = (
    "proxy",
    "x user",
    "x forwarded",
    "x(?!-client-cert-) client cert",  # spelled as it should be, it is for `request` to judge
)


def _spelled(names: Iterable[str]) -> str:
    """Return the pattern of names, with anything but letters between their letters; what they begin with stands once."""
    groups = groupby(sorted(names), key=lambda name: name[0])
    branches = [first + _rest([name[1:] for name in group]) for first, group in groups]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _rest(endings: list[str]) -> str:
    longer = [ending for ending in endings if ending]
    if not longer:
        return ""
    pattern = f"{_OTHER}*+{_spelled(longer)}"
    return pattern if longer == endings else f"(?:{pattern})?"


_OTHER = r"[^a-z:\r]"  # what is no letter and does not end the name
_parted = "|".join(
    f"{_OTHER}++".join(family.split()) + rf"{_OTHER}++[^:\r]*+" for family in _FAMILIES
)
# The names in a block in lower case, from the end of the line before to the colon; put behind the names themselves.
LOOKALIKE = rf"{_OTHER}*+(?:{_spelled(_KNOWN)}{_OTHER}*+|{_parted})".encode()


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
