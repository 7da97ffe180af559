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
        if not self.hosts:
            # A route for certain hosts goes before one for any.
            return not other.hosts and self.wins(other)
        # Who may claim a host at all is another rule: `is_granted`.
        return any(
            self._takes_on(mine, theirs, other) for mine in self.hosts for theirs in other.hosts
        )

    def _takes_on(self, mine: str, theirs: str, other: "Claim") -> bool:
        if mine == theirs:
            return self.wins(other)
        # The more specific host goes first, whatever its paths are.
        return _is_below(mine, theirs) and self._meets_path(other)

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


def _is_below(host: str, pattern: str) -> bool:
    """Whether a host, or all hosts of a wildcard, are below another wildcard."""
    return host != pattern and pattern.startswith(_WILDCARD) and host.endswith(pattern[1:])


def is_granted(host: str, granted: Iterable[str]) -> bool:
    """Whether labels may claim a host: it is one of those that the operator has given to them, or below one."""
    return any(host == pattern or _is_below(host, pattern) for pattern in granted)
