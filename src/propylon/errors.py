"""Define every error that can end an exchange, in one tree.

Each class knows its HTTP status, its code in the answer's body, and whose fault it is (`source`). A stage raises;
`proxy/refuse.py` turns the error into the answer. Foreign exceptions are translated into these at the border.

GatewayError
├── InvalidRequest        400  the request cannot be understood, or can be understood in two ways
│   ├── Conflict          409  what is asked for contradicts what there is
│   ├── PreconditionFailed  412  what is to be changed is not what the client has seen
│   ├── UnsupportedCoding  415
│   ├── UnknownExpectation  417
│   ├── UnsupportedCoding  415
│   └── InvalidFields     422
├── AuthError             401
│   └── Forbidden         403
├── NotFound              404
├── MethodNotAllowed      405
├── RequestTimeout        408
├── PayloadTooLarge       413
├── UpgradeRequired       426  the route has only WebSockets, or another version of them
├── HeadersTooLarge       431
├── RateLimited           429
├── Refused                    a team's own policy refuses the request, with a status of its choice
├── ClientGone            499  the client left; the status goes to the log and is never sent
├── InternalError         500  a bug in the gateway
├── UpstreamError         502  an instance was chosen and failed
│   ├── ConnectFailed          the connection could not be made: no byte of the request was sent
│   │   └── CertificateRejected  the upstream's certificate fails its check
│   ├── UpstreamReset          the connection broke before the answer was complete
│   │   └── StaleConnection    the upstream had closed the kept-alive connection before it answered
│   ├── BadResponse            the answer is not HTTP, or is ambiguous
│   └── UpstreamStatus         an endpoint's call was answered with an error status
├── ServiceUnavailable    503
│   ├── CircuitOpen       503
│   ├── NoInstance        503  the service has no instance that may be asked: nothing was sent
│   ├── UpstreamBusy      503  all connections to the instance are in use: nothing was sent
│   ├── Overloaded        503  the service has as many requests as it can work on: nothing was sent
│   ├── Maintenance       503  or another status, which the operator has chosen
│   ├── LocalFault        503  the gateway has no descriptor, port or buffer left: nothing was sent
│   └── TooManyConnections  503  the client's connection is one too many
├── NotStored             504  the request wants a stored answer or none (`only-if-cached`)
└── UpstreamTimeout       504
    ├── ConnectTimeout    504
    └── UpstreamStalled   504  the upstream has stopped reading the request
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Source = Literal["client", "gateway", "upstream"]
Details = Mapping[str, object]

__all__ = [
    "AuthError",
    "BadResponse",
    "CertificateRejected",
    "CircuitOpen",
    "ClientGone",
    "Conflict",
    "ConnectFailed",
    "ConnectTimeout",
    "Details",
    "Forbidden",
    "GatewayError",
    "HeadersTooLarge",
    "InternalError",
    "InvalidFields",
    "InvalidRequest",
    "LocalFault",
    "Maintenance",
    "MethodNotAllowed",
    "NoInstance",
    "NotFound",
    "NotStored",
    "Overloaded",
    "PayloadTooLarge",
    "PreconditionFailed",
    "RateLimited",
    "Refused",
    "RequestTimeout",
    "ServiceUnavailable",
    "Source",
    "StaleConnection",
    "TooManyConnections",
    "UnknownExpectation",
    "UnsupportedCoding",
    "UpgradeRequired",
    "UpstreamBusy",
    "UpstreamError",
    "UpstreamReset",
    "UpstreamStalled",
    "UpstreamStatus",
    "UpstreamTimeout",
]


class GatewayError(Exception):
    """Base of all errors that end an exchange without a complete answer from the upstream."""

    status: int = 500
    code: str = "INTERNAL_ERROR"
    source: ClassVar[Source] = "gateway"
    # True: close the client's connection. Its next bytes may belong to the request that was refused.
    closes: ClassVar[bool] = False
    # True: no byte of the request reached the upstream, so any method may go to another instance.
    unsent: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        details: Details | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        reason: str = "",
    ) -> None:
        """Set `message`, `details` and `headers` for the client; `reason` goes to the log only."""
        super().__init__(message)
        self.message = message
        self.details: Details = details or {}
        self.headers = headers
        self.reason = reason
        # What the type and the title of a problem are (RFC 9457), where there is more to say than the status does.
        self.problem: tuple[str, str] | None = None
        # The Content-Type and the body of the answer, in place of the usual ones.
        self.page: tuple[bytes, bytes] | None = None


class InvalidRequest(GatewayError):
    """400: the request is malformed, or two parsers could read it differently."""

    status = 400
    code = "INVALID_REQUEST"
    source = "client"
    closes = True


class InvalidFields(InvalidRequest):
    """422: the request is well-formed HTTP, but its content does not fit the endpoint."""

    status = 422
    closes = False


class Conflict(InvalidRequest):
    """409: the request contradicts what there is, such as a name that is taken (RFC 9110, 15.5.10)."""

    status = 409
    closes = False


class PreconditionFailed(InvalidRequest):
    """412: If-Match names another state than the one that there is (RFC 9110, 13.1.1)."""

    status = 412
    closes = False


class UnknownExpectation(InvalidRequest):
    """417: the request has an `Expect` other than 100-continue (RFC 9110, 10.1.1)."""

    status = 417


class AuthError(GatewayError):
    """401: the request has no token, or its token is not valid."""

    status = 401
    code = "AUTH_ERROR"
    source = "client"


class Forbidden(AuthError):
    """403: the client is known, but may not do this."""

    status = 403


class NotFound(GatewayError):
    """404: no route matches the path."""

    status = 404
    code = "NOT_FOUND"
    source = "client"


class MethodNotAllowed(GatewayError):
    """405: the path has a route, but not for this method; `headers` has `Allow`."""

    status = 405
    code = "METHOD_NOT_ALLOWED"
    source = "client"


class RequestTimeout(GatewayError):
    """408: the client was silent for too long in the middle of its request."""

    status = 408
    code = "REQUEST_TIMEOUT"
    source = "client"
    closes = True


class PayloadTooLarge(GatewayError):
    """413: the request body is larger than `max_body`."""

    status = 413
    code = "PAYLOAD_TOO_LARGE"
    source = "client"
    closes = True


class UnsupportedCoding(InvalidRequest):
    """415: the request's body has a Content-Encoding that the gateway cannot read; `headers` has `Accept-Encoding`."""

    status = 415


class UpgradeRequired(GatewayError):
    """426: the route serves only WebSockets, and the request asks for none, or for another version of the protocol."""

    status = 426
    code = "UPGRADE_REQUIRED"
    source = "client"


class HeadersTooLarge(GatewayError):
    """431: the request head is larger than `max_header`, or has too many fields."""

    status = 431
    code = "HEADERS_TOO_LARGE"
    source = "client"
    closes = True


class RateLimited(GatewayError):
    """429: the client has used up its rate limit; `headers` has `Retry-After`, `violated` the names of the limits."""

    status = 429
    code = "RATE_LIMIT"
    source = "client"
    violated: tuple[str, ...] = ()


class Refused(GatewayError):
    """A team's own policy refuses the request, with any status."""

    source = "client"

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        """Take the status, code, message and headers that the policy chose."""
        super().__init__(message, headers=headers)
        self.status = status
        self.code = code


class ClientGone(GatewayError):
    """499 (nginx's number): the client left. The status is logged, never sent."""

    status = 499
    code = "CLIENT_GONE"
    source = "client"
    closes = True


class InternalError(GatewayError):
    """500: a bug in the gateway. The traceback goes to the log, never to the client."""

    closes = True


class UpstreamError(GatewayError):
    """502: an instance was chosen, and it failed."""

    status = 502
    code = "UPSTREAM_ERROR"
    source = "upstream"


class ConnectFailed(UpstreamError):
    """502: the instance refused the connection, or is unreachable or unresolvable; nothing was sent."""

    unsent = True


class UpstreamReset(UpstreamError):
    """502: the connection broke before the answer was complete."""


class StaleConnection(UpstreamReset):
    """502: the upstream had closed the kept-alive connection before it answered anything."""


class CertificateRejected(ConnectFailed):
    """502: the upstream's certificate fails its check. It is never retried: the next attempt would ask an impostor again."""

    unsent = False  # nothing was sent, but nothing may be sent elsewhere either


class BadResponse(UpstreamError):
    """502: the answer is not HTTP, or two parsers could read it differently."""


class UpstreamStatus(UpstreamError):
    """502: the answer to an endpoint's call has a status that is no 2xx; `response` is that answer."""

    def __init__(
        self,
        message: str,
        *,
        details: Details | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        reason: str = "",
        response: Any = None,
    ) -> None:
        """Take what all errors have, and the answer, a `ServiceResponse`: it is defined to the left of this module."""
        super().__init__(message, details=details, headers=headers, reason=reason)
        self.response = response


class ServiceUnavailable(GatewayError):
    """503: the service has no instance that may be asked, or something it depends on is unavailable."""

    status = 503
    code = "SERVICE_UNAVAILABLE"
    source: ClassVar[Source] = "upstream"


class CircuitOpen(ServiceUnavailable):
    """503: the breaker of this service is open."""

    code = "CIRCUIT_OPEN"


class NoInstance(ServiceUnavailable):
    """503: the service has no instance, or none of them may be asked now; nothing was sent."""

    unsent = True


class UpstreamBusy(ServiceUnavailable):
    """503: all connections to the instance are in use, or none became free in time; nothing was sent."""

    unsent = True


class Overloaded(ServiceUnavailable):
    """503: the service has as many requests as it can work on (`adaptive_concurrency`); nothing was sent."""

    code = "OVERLOADED"
    unsent = True


class LocalFault(ServiceUnavailable):
    """503: the gateway itself lacks what a connection needs; `reason` is the system's name for that, such as EMFILE.

    It is no failure of the upstream. It is not sent elsewhere either: another connection would lack the same.
    """

    source = "gateway"


class Maintenance(ServiceUnavailable):
    """503, or a status that the operator has chosen: the route is under maintenance."""

    code = "MAINTENANCE"
    source = "gateway"


class TooManyConnections(ServiceUnavailable):
    """503: the gateway has as many connections of clients, or of this client, as it may have."""

    source = "gateway"
    closes = True


class NotStored(GatewayError):
    """504: the request wants a stored answer or none (RFC 9111, 5.2.1.7), and there is none."""

    status = 504
    code = "UPSTREAM_TIMEOUT"  # the one code that a 504 has
    source = "client"


class UpstreamTimeout(GatewayError):
    """504: the upstream did not answer within a deadline."""

    status = 504
    code = "UPSTREAM_TIMEOUT"
    source = "upstream"


class ConnectTimeout(UpstreamTimeout):
    """504: the connection was not made within `timeouts.connect`; nothing was sent."""

    unsent = True


class UpstreamStalled(UpstreamTimeout):
    """504: the upstream has read nothing of the request for `timeouts.idle`, while some of it waited to be read."""
