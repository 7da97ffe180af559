"""JUDGE: tell what the end of an exchange says about the service and the instance that were asked. Pure."""

from __future__ import annotations

from enum import Enum

from propylon.errors import (
    ConnectFailed,
    ConnectTimeout,
    GatewayError,
    UpstreamError,
    UpstreamStalled,
    UpstreamTimeout,
)

__all__ = ["Outcome", "excused", "judge"]


class Outcome(Enum):
    """What the end of an exchange says about its service."""

    SUCCESS = 1
    FAILURE = 2
    NEUTRAL = 3  # nothing: the client left or was at fault, or the gateway was


_FAILURE = Outcome.FAILURE
# What upstreams, and gateways in front of them, answer when they give up on a request that does not end. Not 503: an
# overloaded upstream says so at once, whatever the client does.
_GAVE_UP = frozenset({408, 500, 502, 504})
# 500: the service is broken. 502 and 504: a gateway behind us found its upstream broken. 503: overloaded.
# 501 and 505 are about the request, so a client could open the breaker with them. A 4xx is the client's fault.
# 600 and above: RFC 9110, 15 has them read as 500.
_FAILED = frozenset({500, 502, 503, 504, *range(600, 1000)})


# What is the upstream's own failure, whatever the client does.
_OWN = (ConnectFailed, ConnectTimeout, UpstreamStalled)


def judge(error: GatewayError | None, status: int) -> Outcome:
    """Return the outcome of an exchange: by the error that ended it, else by the upstream's status.

    An error after the response head wins over the status: a 200 whose body breaks off is a failure.
    """
    if error is None:
        if not status:
            return Outcome.NEUTRAL  # the exchange ended before the upstream answered
        return _FAILURE if status in _FAILED else Outcome.SUCCESS
    if isinstance(error, UpstreamError | UpstreamTimeout):
        return _FAILURE
    return Outcome.NEUTRAL


def excused(error: GatewayError | None, status: int, *, uploading: bool) -> bool:
    """Tell whether a failure says nothing about the upstream, because the client had not sent its whole body yet.

    Upstreams give up on slow clients: they answer 408 or 500, or close. Five slow uploads must not close the service to
    all other clients. Two failures are the upstream's own even then: no connection to it, and an upstream that has
    stopped reading.
    """
    if not uploading:
        return False
    if error is None:
        return status in _GAVE_UP
    return not isinstance(error, _OWN)
