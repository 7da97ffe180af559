"""RETRY: what is tried again, after which pause, and how much of that the upstreams are to bear. Pure.

The loop itself is in `forward`; here are the rules that it asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from propylon.errors import (
    ConnectFailed,
    ConnectTimeout,
    GatewayError,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.upstream.pool import IDEMPOTENT
from propylon.wire.grammar import DELAY_SECONDS
from propylon.wire.headers import values

__all__ = ["CONNECT_FAILURE", "RESET", "TIMEOUT", "Budget", "Retry", "asked_pause"]

# Envoy's words.
CONNECT_FAILURE = "connect-failure"
RESET = "reset"
TIMEOUT = "timeout"

# The first that fits: a connection that did not come in time is no late answer. An answer that is
# not HTTP (BadResponse) is in none of them: another instance of the same program gives the same, and
# what an attacker smuggled past one of them should not be tried on all.
_KINDS: tuple[tuple[type[GatewayError], str], ...] = (
    (ConnectFailed, CONNECT_FAILURE),
    (ConnectTimeout, CONNECT_FAILURE),
    (UpstreamReset, RESET),
    (UpstreamTimeout, TIMEOUT),
)
# Doubled that often, any pause is longer than anybody waits; and no float overflows.
_MOST_DOUBLINGS = 32


@dataclass(frozen=True, slots=True)
class Retry:
    """When a request is sent again: `attempts` counts the first one, pauses are in seconds."""

    attempts: int = 3
    backoff: float = 0.1
    max_backoff: float = 2.0
    statuses: frozenset[int] = frozenset({502, 503, 504})
    kinds: frozenset[str] = frozenset({CONNECT_FAILURE, RESET})
    non_idempotent: bool = False

    def triggered_by(self, error: GatewayError) -> bool:
        """Tell whether a failure to get an answer is worth another attempt."""
        kind = next((kind for cause, kind in _KINDS if isinstance(error, cause)), None)
        return kind in self.kinds

    def triggered_by_status(self, status: int, asked: float = 0.0) -> bool:
        """Tell whether an answer is worth another attempt, if it asked for that long a pause.

        One that asks for more than `max_backoff` is passed on: its Retry-After is for the client.
        """
        return status in self.statuses and asked <= self.max_backoff

    def allows(self, method: str, *, unsent: bool) -> bool:
        """Tell whether nobody is harmed if the request arrives twice (RFC 9110, 9.2.2)."""
        return unsent or self.non_idempotent or method in IDEMPOTENT

    def pause(self, attempt: int, chance: Callable[[], float], asked: float = 0.0) -> float:
        """Return how long to wait after that many attempts; `chance` returns numbers in [0, 1).

        Equal jitter: half is fixed, so that pauses grow whatever chance says, and half is random, so
        that those who failed together do not come back together. After attempt n that is between
        `backoff`·2^(n-1) and twice as much: never less than `backoff`, and capped so that the end
        of the range is `max_backoff`.
        """
        doubled = self.backoff * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
        fixed = min(doubled, max(self.backoff, self.max_backoff / 2))
        return max(asked, min(fixed + fixed * chance(), self.max_backoff))


def asked_pause(block: bytes) -> float:
    """Return the seconds that an answer's Retry-After asks for; 0 where it gives none, or a date.

    A date would have to be compared with a clock that the upstream may not share.
    """
    sent = values(block, b"retry-after")
    if len(sent) != 1 or DELAY_SECONDS.fullmatch(sent[0]) is None:
        return 0.0
    return float(int(sent[0]))


# Finagle and Linkerd allow a fifth of the last ten seconds' requests, and a few in any case, so that
# a service that is seldom asked has retries, too: theirs are ten a second, Envoy's three at a time.
_SPAN = 10
_ALWAYS = 10


class Budget:
    """How many retries a service is to bear: a share of the last ten seconds' requests, plus ten.

    Counted in whole seconds of the caller's clock, which is read for other reasons anyway.
    """

    __slots__ = ("_requests_before", "_retries", "_retries_before", "end", "requests", "share")

    def __init__(self, share: float) -> None:
        """Begin with no requests."""
        self.share = share
        self.end = 0.0  # of the second that is being counted
        self.requests = 0
        self._retries = 0
        self._requests_before: deque[int] = deque(maxlen=_SPAN - 1)
        self._retries_before: deque[int] = deque(maxlen=_SPAN - 1)

    def note_request(self, now: float) -> None:
        """Count a request, once, however often it is sent."""
        if now >= self.end:
            self._turn(now)
        self.requests += 1

    def take(self, now: float) -> bool:
        """Count a retry, if there may be one."""
        if now >= self.end:
            self._turn(now)
        requests = self.requests + sum(self._requests_before)
        retries = self._retries + sum(self._retries_before)
        if retries + 1 > self.share * requests + _ALWAYS:
            return False
        self._retries += 1
        return True

    def _turn(self, now: float) -> None:
        """Begin the second that `now` is in; those in between had nothing."""
        silent = int(now - self.end)
        self.end += silent + 1
        nothing = [0] * min(silent, _SPAN)
        self._requests_before.append(self.requests)
        self._requests_before.extend(nothing)
        self._retries_before.append(self._retries)
        self._retries_before.extend(nothing)
        self.requests = self._retries = 0
