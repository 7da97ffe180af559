"""Slow down those who guess passwords, without locking out the user. Pure.

Strategy. Failures are counted for each pair of name and address: too many of them refuse that pair. By the name alone
there is only a delay, since a refusal would let an attacker lock a user out (OWASP, Authentication Cheat Sheet). The
delay is not for an address from which the user has logged in before.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from propylon.errors import RateLimited
from propylon.names.addresses import subnet

__all__ = ["Guesses"]

# NIST SP 800-63B, 5.2.2, allows 100 failures in a row. Ten in five minutes are more than a user mistypes.
_MOST = 10
_WINDOW = 300.0  # seconds
# The delay doubles with each failure after these, from a tenth of a second to two.
_FREE = 5
_SHORTEST = 0.1
_LONGEST = 2.0
_NAME_WINDOW = 900.0
# Of all names together, from one address: an office behind one address mistypes less, and a list of names has more.
_MOST_OF_ADDRESS = 100
# Keys of each count. An attacker with more names or addresses pushes the oldest out.
_MAX_KEYS = 10_000


@dataclass(slots=True)
class _Counts:
    """Events by key in a window of time, which begins with the first of them."""

    window: float
    clock: Callable[[], float]
    _counts: dict[str, tuple[int, float]] = field(default_factory=dict)

    def of(self, key: str) -> tuple[int, float]:
        """Return how many there are, and the seconds until they are forgotten."""
        count, ends = self._counts.get(key, (0, 0.0))
        left = ends - self.clock()
        return (count, left) if left > 0 else (0, self.window)

    def add(self, key: str) -> None:
        """Count one more of this key. The first one begins the window, and the later ones do not lengthen it."""
        count, left = self.of(key)
        self._counts.pop(key, None)
        self._counts[key] = (count + 1, self.clock() + left)
        if len(self._counts) > _MAX_KEYS:
            del self._counts[next(iter(self._counts))]

    def forget(self, key: str) -> None:
        """Forget those of this key."""
        self._counts.pop(key, None)


class Guesses:
    """The failed logins of this worker."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin without guesses; `clock` is monotonic, in seconds."""
        self._pairs = _Counts(_WINDOW, clock)
        self._names = _Counts(_NAME_WINDOW, clock)
        self._addresses = _Counts(_WINDOW, clock)

    def check(self, name: str, address: str) -> None:
        """Count an attempt, which `succeeded` takes back. Raises RateLimited after too many."""
        pair = _pair(name, address)
        count, left = self._pairs.of(pair)
        if count >= _MOST:
            raise _too_many(left, "failed logins of this user from this address")
        count, left = self._addresses.of(subnet(address))
        if count >= _MOST_OF_ADDRESS:
            raise _too_many(left, "failed logins from this address")
        # Counted before the password is verified: requests that come at once are counted, too.
        self._pairs.add(pair)

    def delay(self, name: str) -> float:
        """Return the seconds that a login of this name has to wait, from an address that is not known."""
        count, _ = self._names.of(_folded(name))
        return 0.0 if count < _FREE else min(_LONGEST, _SHORTEST * 2.0 ** min(count - _FREE, 10))

    def failed(self, name: str, address: str | None = None) -> None:
        """Count a failed login of this name, from whatever address; with an address, one more from there, too.

        The token endpoint has a limit of requests for each address, and needs no count of failures.
        """
        self._names.add(_folded(name))
        if address is not None:
            self._addresses.add(subnet(address))

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of this pair. Those of the name stay: they may be an attacker's."""
        self._pairs.forget(_pair(name, address))


def _too_many(left: float, reason: str) -> RateLimited:
    wait = max(1, math.ceil(left))
    return RateLimited(
        "Too many failed logins",
        details={"retry_after": wait},
        headers=((b"Retry-After", b"%d" % wait),),
        reason=reason,
    )


def _pair(name: str, address: str) -> str:
    return f"{subnet(address)} {_folded(name)}"


def _folded(name: str) -> str:
    # Logins ignore capitals; by other spellings of a name an attacker would have further attempts.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
