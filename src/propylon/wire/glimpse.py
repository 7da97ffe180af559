"""Read of a head that was refused as a whole what its answer needs: the line, Host and Origin. Pure.

A browser shows its page no answer without CORS headers. So a page would read "network error" instead of 417 or 431,
unless the gateway knew where the request came from.
"""

from __future__ import annotations

import re

from propylon.errors import GatewayError, HeadersTooLarge, UnknownExpectation
from propylon.wire.message import Request
from propylon.wire.request import parse_request

__all__ = ["glimpse"]

_NEEDED = re.compile(rb"\r\n(?:host|origin):[^\r\n]*(?=\r\n)", re.IGNORECASE)


def glimpse(head: bytes, error: GatewayError) -> Request | None:
    """Return what can be read of a head that ended in `error`; None if that is nothing. Nothing of it may be forwarded.

    Only for an unknown expectation (417) and a head that is too large (431): all that was read of these is sound. A
    head that can be read in two ways has no origin that one could rely on.
    """
    if not isinstance(error, HeadersTooLarge | UnknownExpectation):
        return None
    line, mark, _ = head.partition(b"\r\n")
    if not mark:
        return None
    try:
        return parse_request(line + b"".join(_NEEDED.findall(head)) + b"\r\n\r\n")
    except GatewayError:
        return None
