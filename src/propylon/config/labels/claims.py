"""Tell whether a route would take requests that another one gets today. Pure.

The rule is that of `proxy.match`: by host first, then segment by segment from the left, a literal over `{}`, exact over prefix, the longer. A
property compares both, in tests/config/test_claims.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from propylon.config.models.syntax import shape

__all__ = ["Claim", "is_granted"]

_ANY = "{}"
_WILDCARD = "*."


@dataclass(frozen=True, slots=True)
class Claim:
    """The requests that a route asks for, without methods and conditions: those of a place are its owner's."""

    path: str
    exact: bool = False
    hosts: frozenset[str] = frozenset()

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments of the path, `{}` for any."""
        # Some servers read paths without their case, and the table refuses what could be read as another route's.
        text = shape(self.path).strip("/").lower()
        return tuple(text.split("/")) if text else ()

    def takes_from(self, other: "Claim") -> bool:
        """Whether a route with this claim would get, or compete for, a request of one with the other."""
        if not self._meets_hosts(other.hosts):
            return False
        if self.hosts and not other.hosts:
            return False  # who may claim a host is another rule, `is_granted`
        return self.wins(other)

    def _meets_hosts(self, others: frozenset[str]) -> bool:
        if not self.hosts:
            # A route for certain hosts goes before one for any.
            return not others
        return not others or any(_meet(one, other) for one in self.hosts for other in others)

    def is_like(self, other: "Claim") -> bool:
        """Whether neither goes before the other, and some request is one of both."""
        alike = (self.segments, self.exact) == (other.segments, other.exact)
        return alike and (self.hosts == other.hosts or bool(self.hosts & other.hosts))

    def wins(self, other: "Claim") -> bool:
        """Whether it would get a request of the other, or compete for it, by the path alone."""
        mine, theirs = self.segments, other.segments
        for one, two in zip(mine, theirs, strict=False):
            if one == two:
                continue
            if _ANY not in (one, two):
                return False  # no path is of both
            return two == _ANY and self._meets_path(other)
        if len(mine) == len(theirs):
            return True
        return len(mine) > len(theirs) and not other.exact

    def _meets_path(self, other: "Claim") -> bool:
        """Whether some path is one of both."""
        mine, theirs = self.segments, other.segments
        if any(
            one != two and _ANY not in (one, two) for one, two in zip(mine, theirs, strict=False)
        ):
            return False
        if len(mine) == len(theirs):
            return True
        shorter = self if len(mine) < len(theirs) else other
        return not shorter.exact


def _meet(one: str, other: str) -> bool:
    """Whether some host is one of both."""
    if one.startswith(_WILDCARD) and other.startswith(_WILDCARD):
        return one.endswith(other[1:]) or other.endswith(one[1:])
    return one == other or _covers(one, other) or _covers(other, one)


def _covers(pattern: str, host: str) -> bool:
    return pattern.startswith(_WILDCARD) and host.endswith(pattern[1:])


def is_granted(host: str, granted: Iterable[str]) -> bool:
    """Whether labels may claim a host: it is one of those that the operator has given to them, or below one."""
    return any(host == pattern or _covers(pattern, host) for pattern in granted)
