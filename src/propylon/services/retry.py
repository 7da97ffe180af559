"""RETRY: decide whether a request is sent again, after which pause, within which budget. Pure.

The loop itself is in `proxy.forward`; here are the rules that it asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from propylon.errors import (
    CertificateRejected,
    ConnectFailed,
    ConnectTimeout,
    GatewayError,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.upstream.pool import IDEMPOTENT
from propylon.wire.grammar import DELAY_SECONDS
from propylon.wire.headers import values

__all__ = [
    "CONNECT_FAILURE",
    "RESET",
    "TIMEOUT",
    "Budget",
    "Retry",
    "kind_of",
    "retry_after_seconds",
]

# The same words as Envoy's retry_on, which operators know.
CONNECT_FAILURE = "connect-failure"
RESET = "reset"
TIMEOUT = "timeout"

# The first match counts: a connect timeout is a ConnectTimeout and also an UpstreamTimeout, and means that no
# byte was sent. A response that is not HTTP (BadResponse) is in no line: another instance of the same program
# would answer the same, and a request that was smuggled past one instance must not be tried on all of them.
# A certificate that fails its check is retried by no trigger: it stays wrong, or it is an attack.
_KINDS: tuple[tuple[type[GatewayError], str], ...] = (
    (CertificateRejected, ""),
    (ConnectFailed, CONNECT_FAILURE),
    (ConnectTimeout, CONNECT_FAILURE),
    (UpstreamReset, RESET),
    (UpstreamTimeout, TIMEOUT),
)
# Bounds the exponent, so that the float does not overflow: 2^32 times a millisecond is fifty days already.
_MAX_DOUBLINGS = 32


@dataclass(frozen=True, slots=True)
class Retry:
    """When a request is sent again; `attempts` includes the first one, pauses are in seconds."""

    # 502 to 504 are Envoy's gateway-error, nginx's usual proxy_next_upstream. 500 is not among them: the service
    # may have done half of the work. A timeout neither: a client that waited 30 s seldom waits for 30 more.
    attempts: int = 3
    backoff: float = 0.1
    max_backoff: float = 2.0
    statuses: frozenset[int] = frozenset({502, 503, 504})
    kinds: frozenset[str] = frozenset({CONNECT_FAILURE, RESET})
    non_idempotent: bool = False

    def triggered_by(self, error: GatewayError) -> bool:
        """Tell whether a failed attempt without an answer is worth another attempt."""
        return kind_of(error) in self.kinds

    def triggered_by_status(self, status: int, asked: float = 0.0) -> bool:
        """Tell whether an answer is worth another attempt; `asked` is its Retry-After in seconds.

        An answer that asks for more than `max_backoff` is passed on: its Retry-After is for the client. The
        gateway would hold a connection open for that long.
        """
        return status in self.statuses and asked <= self.max_backoff

    def allows(self, method: str, *, unsent: bool) -> bool:
        """Tell whether the request may arrive twice (RFC 9110, 9.2.2), or cannot because no byte was sent."""
        # POST and PATCH once a byte was sent: only if the operator says so (nginx's `non_idempotent`). The instance may
        # have charged the card before its connection broke.
        return unsent or self.non_idempotent or method in IDEMPOTENT

    def pause(self, attempt: int, chance: Callable[[], float], asked: float = 0.0) -> float:
        """Return the seconds to wait after attempt number `attempt`; `chance` returns numbers in [0, 1).

        After attempt n the pause is between `backoff`·2^(n-1) and twice as much, and at most `max_backoff`.
        The upstream's Retry-After (`asked`) is never undercut.
        """
        # Equal jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015): half of the pause is fixed and half
        # is random. Random, so that requests that failed together do not come back together. Fixed in part,
        # because full jitter, Envoy's choice, also draws pauses near zero, which spare the upstream nothing.
        # The range is capped as a whole, so that pauses at the cap are still random.
        doubled = self.backoff * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)
        fixed = min(doubled, max(self.backoff, self.max_backoff / 2))
        return max(asked, min(fixed + fixed * chance(), self.max_backoff))


def kind_of(error: GatewayError) -> str:
    """Return the word for an error that is worth another attempt; empty for one that is not."""
    return next((kind for cause, kind in _KINDS if isinstance(error, cause)), "")


def retry_after_seconds(block: bytes) -> float:
    """Return the seconds of an answer's Retry-After (RFC 9110, 10.2.3); 0 for none, several, or a date.

    A date means something only on the upstream's clock, which may differ from ours.
    """
    sent = values(block, b"retry-after")
    if len(sent) != 1 or DELAY_SECONDS.fullmatch(sent[0]) is None:
        return 0.0
    return float(int(sent[0]))


# A retry budget (Finagle, Linkerd, Envoy) bounds the load that retries add when a whole service fails: without
# one, three attempts triple the traffic just when the service can bear least. Linkerd's default is 20 % of the
# requests of the last ten seconds plus ten retries a second, Envoy's 20 % plus three at a time. The part that is
# free lets a service with few requests have retries at all.
_WINDOW = 10
_FREE_RETRIES = 10


class Budget:
    """The retry budget of a service: a share of its requests in the last ten seconds, plus ten retries.

    Counts per whole second of the caller's clock, in two short deques. A timestamp for each request would
    cost memory with the load.
    """

    __slots__ = ("_requests_before", "_retries", "_retries_before", "end", "requests", "share")

    def __init__(self, share: float) -> None:
        """Start without requests; `share` is 0.2 for 20 %."""
        self.share = share
        self.end = 0.0  # of the second that is being counted, on the caller's clock
        self.requests = 0
        self._retries = 0
        self._requests_before: deque[int] = deque(maxlen=_WINDOW - 1)
        self._retries_before: deque[int] = deque(maxlen=_WINDOW - 1)

    def note_request(self, now: float) -> None:
        """Count a request once, however often it is sent."""
        if now >= self.end:
            self._advance_to(now)
        self.requests += 1

    def take(self, now: float) -> bool:
        """Take one retry from the budget; tell whether there was one."""
        if now >= self.end:
            self._advance_to(now)
        # Sums over at most ten numbers, and only for a retry; `note_request` is on every request's path.
        requests = self.requests + sum(self._requests_before)
        retries = self._retries + sum(self._retries_before)
        if retries + 1 > self.share * requests + _FREE_RETRIES:
            return False
        self._retries += 1
        return True

    def _advance_to(self, now: float) -> None:
        """Start the second that `now` is in. The seconds in between had no requests."""
        # No timer: a service without requests costs nothing, and the empty seconds are added when one comes.
        silent = int(now - self.end)
        self.end += silent + 1
        nothing = [0] * min(silent, _WINDOW)
        self._requests_before.append(self.requests)
        self._requests_before.extend(nothing)
        self._retries_before.append(self._retries)
        self._retries_before.extend(nothing)
        self.requests = self._retries = 0
