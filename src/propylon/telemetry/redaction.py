"""Keep secrets out of what is told about a request: the values of a query that may be one. Pure.

OpenTelemetry's conventions name four (AWSAccessKeyId, Signature, sig, X-Goog-Signature). A gateway sees the queries of
all services, so more names count, and anything that looks like a JSON web token.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_plus

__all__ = ["redacted"]

_REDACTED = "REDACTED"
_PIECES = re.compile(r"([?&;])")
# In the name of a parameter, in lower case and decoded.
_SECRET = re.compile(
    r"awsaccesskeyid|(?:^|[-_.])(?:sig|key|pin|otp|sid|code|state|nonce|ticket|assertion)$|signature|token|secret"
    r"|passw|passphrase|pwd|api[-_.]?key|auth|jwt|credential|session|cookie|private|access[-_.]?key"
)
# The beginning of a JSON web token: `{"` in base64.
_TOKEN = "eyJ"  # noqa: S105 — how one begins


def redacted(query: str) -> str:
    """Return the query, with or without its `?`, with REDACTED for each value that may be a secret."""
    return "".join(map(_piece, _PIECES.split(query)))


def _piece(piece: str) -> str:
    name, equals, value = piece.partition("=")
    if not equals:
        # A token may stand alone: `?eyJhbGciOi…`.
        return _REDACTED if unquote_plus(piece).startswith(_TOKEN) else piece
    if _is_secret(name) or unquote_plus(value).startswith(_TOKEN):
        return f"{name}={_REDACTED}"
    return piece


# A name is no secret, and a service has few. The bound is for clients that make names up.
@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET.search(unquote_plus(name).lower()) is not None
