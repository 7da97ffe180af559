"""Tell which trailers may pass to a client (RFC 9110, 6.5.1). Pure.

Facts. Many clients merge trailers into the headers. A trailer that frames the message, says who the user is, sets a cookie
or is a header of the gateway's own would then replace what the gateway has checked or written.

Rule. A trailer passes unless its name is one of these. So the status of a gRPC-like call and a checksum pass.
"""

from __future__ import annotations

import re

from propylon.wire.headers import fields, render

__all__ = ["permitted"]

# 6.5.1: framing, routing, request modifiers, authentication, response control data, and how the content is to be read.
# Then what the gateway says itself, and what other proxies say of clients and users. `_` counts as `-`, as in a request.
_FORBIDDEN = re.compile(
    rb"transfer-encoding|content-(?:encoding|length|range|type|location|language|disposition)|host|trailer|connection|keep-alive|upgrade|te|expect|max-forwards|range|if-.*"
    rb"|authorization|proxy-.*|www-authenticate|authentication-info|set-cookie2?|cookie"
    rb"|age|cache-control|expires|date|location|retry-after|vary|warning|allow|etag|last-modified|clear-site-data"
    rb"|strict-transport-security|access-control-.*|x-request-id|x-error-source|x-ratelimit-.*|ratelimit.*"
    rb"|forwarded|x-forwarded-.*|x-real-ip|x-user-.*|x-client-cert-.*|trace(?:parent|state)"
)


def permitted(block: bytes) -> bytes:
    """Return the trailers of a block that may pass."""
    return render(
        pair
        for pair in fields(block)
        if _FORBIDDEN.fullmatch(pair[0].lower().replace(b"_", b"-")) is None
    )
