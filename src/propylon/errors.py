"""Say what went wrong: one tree of errors, each knowing its status, its code and whose fault it is.

GatewayError
├── InvalidRequest        400  the request cannot be understood, or can be understood in two ways
│   ├── UnknownExpectation  417
│   └── InvalidFields     422
├── AuthError             401
│   └── Forbidden         403
├── NotFound              404
├── MethodNotAllowed      405
├── RequestTimeout        408
├── PayloadTooLarge       413
├── HeadersTooLarge       431
├── RateLimited           429
├── Refused                    what a team's own policy says, with a status of its choice
├── ClientGone            499  nobody is left to read an answer; never sent
├── InternalError         500  a bug of ours
├── UpstreamError         502  an instance was chosen and failed
│   ├── ConnectFailed          no connection came about: no byte of the request was sent
│   ├── UpstreamReset          the connection broke before the answer was complete
│   │   └── StaleConnection    a kept-alive connection that the upstream had closed meanwhile
│   └── BadResponse            what came back is not HTTP, or is ambiguous
├── ServiceUnavailable    503
│   ├── CircuitOpen       503
│   └── UpstreamBusy      503  an instance has as many connections as it may: nothing was sent
└── UpstreamTimeout       504
    └── ConnectTimeout    504
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

Source = Literal["client", "gateway", "upstream"]
Details = Mapping[str, object]

__all__ = [
    "AuthError",
    "BadResponse",
    "CircuitOpen",
    "ClientGone",
    "ConnectFailed",
    "ConnectTimeout",
    "Details",
    "Forbidden",
    "GatewayError",
    "HeadersTooLarge",
    "InternalError",
    "InvalidFields",
    "InvalidRequest",
    "MethodNotAllowed",
    "NotFound",
    "PayloadTooLarge",
    "RateLimited",
    "Refused",
    "RequestTimeout",
    "ServiceUnavailable",
    "Source",
    "StaleConnection",
    "UnknownExpectation",
    "UpstreamBusy",
    "UpstreamError",
    "UpstreamReset",
    "UpstreamTimeout",
]


class GatewayError(Exception):
    """Anything that ends an exchange other than by the upstream's answer."""

    status: int = 500
    code: str = "INTERNAL_ERROR"
    source: ClassVar[Source] = "gateway"
    # True: the next bytes of this connection cannot be trusted to start a request.
    closes: ClassVar[bool] = False
    # True: no byte of the request reached the upstream, so any method may be sent elsewhere.
    unsent: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        details: Details | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        reason: str = "",
    ) -> None:
        """Keep what the client is told (`message`, `details`) and what only the log is (`reason`)."""
        super().__init__(message)
        self.message = message
        self.details: Details = details or {}
        self.headers = headers
        self.reason = reason


class InvalidRequest(GatewayError):
    """400: malformed, or ambiguous enough that two parsers could read it differently."""

    status = 400
    code = "INVALID_REQUEST"
    source = "client"
    closes = True


class InvalidFields(InvalidRequest):
    """422: well-formed HTTP whose content does not fit the endpoint."""

    status = 422
    closes = False


class UnknownExpectation(InvalidRequest):
    """417: an `Expect` other than 100-continue (RFC 9110, 10.1.1)."""

    status = 417


class AuthError(GatewayError):
    """401: nobody we know."""

    status = 401
    code = "AUTH_ERROR"
    source = "client"


class Forbidden(AuthError):
    """403: known, and not allowed."""

    status = 403


class NotFound(GatewayError):
    """404: no route."""

    status = 404
    code = "NOT_FOUND"
    source = "client"


class MethodNotAllowed(GatewayError):
    """405: a route, but not for this method; `Allow` is in the headers."""

    status = 405
    code = "METHOD_NOT_ALLOWED"
    source = "client"


class RequestTimeout(GatewayError):
    """408: the client was silent for too long in the middle of a request."""

    status = 408
    code = "REQUEST_TIMEOUT"
    source = "client"
    closes = True


class PayloadTooLarge(GatewayError):
    """413: more body than `max_body`."""

    status = 413
    code = "PAYLOAD_TOO_LARGE"
    source = "client"
    closes = True


class HeadersTooLarge(GatewayError):
    """431: more head than `max_header`, or more fields than anyone needs."""

    status = 431
    code = "HEADERS_TOO_LARGE"
    source = "client"
    closes = True


class RateLimited(GatewayError):
    """429: too many requests."""

    status = 429
    code = "RATE_LIMIT"
    source = "client"


class Refused(GatewayError):
    """Any status: a team's own policy refuses the request."""

    source = "client"

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        """Take what the policy chose."""
        super().__init__(message, headers=headers)
        self.status = status
        self.code = code


class ClientGone(GatewayError):
    """499, nginx's word for it: the client left; logged, never sent."""

    status = 499
    code = "CLIENT_GONE"
    source = "client"
    closes = True


class InternalError(GatewayError):
    """500: a bug of ours; the traceback is in the log, never in the body."""

    closes = True


class UpstreamError(GatewayError):
    """502: an instance was chosen and failed."""

    status = 502
    code = "UPSTREAM_ERROR"
    source = "upstream"


class ConnectFailed(UpstreamError):
    """502: refused, unreachable or unresolvable; nothing was sent."""

    unsent = True


class UpstreamReset(UpstreamError):
    """502: the connection broke before the answer was complete."""


class StaleConnection(UpstreamReset):
    """502: a kept-alive connection that the upstream had closed before it answered anything."""


class BadResponse(UpstreamError):
    """502: what came back is not HTTP, or could be read in two ways."""


class ServiceUnavailable(GatewayError):
    """503: nobody there to ask."""

    status = 503
    code = "SERVICE_UNAVAILABLE"
    source = "upstream"


class CircuitOpen(ServiceUnavailable):
    """503: the breaker of this service is open."""

    code = "CIRCUIT_OPEN"


class UpstreamBusy(ServiceUnavailable):
    """503: all connections to the instance are in use, and as many wait; nothing was sent."""

    unsent = True


class UpstreamTimeout(GatewayError):
    """504: the upstream let a deadline pass."""

    status = 504
    code = "UPSTREAM_TIMEOUT"
    source = "upstream"


class ConnectTimeout(UpstreamTimeout):
    """504: no connection within `timeouts.connect`; nothing was sent."""

    unsent = True
