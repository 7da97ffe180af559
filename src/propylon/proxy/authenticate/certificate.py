"""AUTHENTICATE: find out who sends a request over a connection whose client has shown a certificate.

A token comes first: it says more than the certificate, which may be that of a whole service. A bad token stays 401.
Without a token the principal is the certificate's, which has a subject, and neither scopes nor roles.
"""

from __future__ import annotations

from propylon.proxy.exchange import Origin
from propylon.proxy.principal import Principal
from propylon.proxy.route import Route
from propylon.wire.message import Request

__all__ = ["authenticate"]


async def authenticate(route: Route, request: Request, origin: Origin) -> Principal:
    """Return the principal of the request's token, or else of the client's certificate, where the route takes one.

    Raises what the route's own stages raise.
    """
    if route.beside_certificate is None or origin.holder is None:
        return await route.authenticate(request, origin.client)
    principal = await route.beside_certificate(request, origin.client)
    return principal if principal.known else origin.holder
