"""Define what the rules about traffic are given, and what they return. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from propylon.commands.audit.scrape import Observed
from propylon.config.models.schema import BUILTIN_SERVICE, GatewayConfig
from propylon.config.reading.problems import Doubt
from propylon.config.reading.rules import Rule

__all__ = ["Least", "Seen", "Traffic", "Unseen"]


@dataclass(frozen=True, slots=True)
class Least:
    """The least traffic that is judged: so many requests, and so many seconds since the configuration came into force."""

    requests: int = 1000
    age: float = 3600.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """A configuration, what its gateway has counted, and when that was read (seconds since 1970)."""

    config: GatewayConfig
    observed: Observed
    now: float
    least: Least = Least()

    @property
    def age(self) -> float:
        """Seconds since the configuration was put into force; 0 where that is not known."""
        configured = self.observed.configured
        return max(0.0, self.now - configured) if configured else 0.0

    @property
    def youth(self) -> str:
        """Why it is too young to say that something did not happen; "" if it is not."""
        if self.age >= self.least.age:
            return ""
        if not self.observed.configured:
            return "it is not known since when the configuration is in force"
        return f"the configuration is in force for {self.age:.0f} of {self.least.age:.0f} seconds"

    def of_service(self, name: str) -> int:
        """Return how many requests the routes of a service had."""
        return sum(
            count for asked, count in self.observed.requests.items() if asked.service == name
        )

    @property
    def total(self) -> int:
        """All requests to services, without those to endpoints of the gateway."""
        return sum(
            count
            for asked, count in self.observed.requests.items()
            if asked.route and asked.service != BUILTIN_SERVICE
        )


@dataclass(frozen=True, slots=True)
class Unseen:
    """What a rule could not judge, and why."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule found, and what it could not judge."""

    found: tuple[Doubt, ...] = ()
    unseen: tuple[Unseen, ...] = ()

    @classmethod
    def of(cls, rule: Rule, found: list[Doubt], few: int, of: int, what: str) -> Seen:
        """Return a result in which `few` `of` all had too little traffic; `what` says what they are, and the least."""
        unseen = (Unseen(rule.id, f"{few} of {of} {what}"),) if few else ()
        return cls(tuple(found), unseen)
