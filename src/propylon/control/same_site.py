"""Refuse requests that a page of another site has a browser send: for endpoints that show or change what the gateway does."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request

from propylon.errors import Forbidden
from propylon.proxy.challenge import missing

__all__ = ["SAME_SITE"]

# Fetch Metadata (W3C): what a browser says of the page that sends the request. Programs say nothing.
_OWN = frozenset({"", "same-origin", "none"})


async def _check(request: Request) -> None:
    """Raise AuthError unless the token is in the header Authorization, Forbidden if another site's page sends it.

    A cookie would be sent by the browser itself, whoever's page asks for it; that header is set by a page that knows the
    token. So CORS, which may let other origins read a route's answers, opens nothing here.
    """
    if not request.headers.get("authorization"):
        msg = "this endpoint takes the token from the header Authorization alone"
        raise missing(msg)
    if request.headers.get("sec-fetch-site", "") not in _OWN:
        msg = "Pages of other sites may not use this endpoint"
        raise Forbidden(msg)


SAME_SITE: Any = Depends(_check)
