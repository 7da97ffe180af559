"""Compile what a client meets on a route into one value, so that the matcher can tell whether two routes differ in it."""

from __future__ import annotations

from propylon.config.models.endpoints import Endpoint
from propylon.config.models.route import RouteConfig
from propylon.proxy.route import UNPROTECTED

__all__ = ["Rules", "builtin_rules"]

# Where a request matches (the matcher compares methods by itself), what the route is called, how long the gateway waits
# for the service, and what is recorded: none of these protects anything. Every other key is a rule, also one that a later version adds.
_NO_RULES = frozenset({"name", "path", "exact", "hosts", "priority", "timeouts", "sampling"})
_RULES = tuple(key for key in RouteConfig.model_fields if key not in _NO_RULES)


class Rules:
    """The rules of a route: all keys of its configuration that are rules, and its policy."""

    __slots__ = ("policy", "written")

    def __init__(self, written: RouteConfig, policy: object) -> None:
        """Take the configuration; `policy` is what makes the policy stage, None where there is none."""
        self.written = written
        self.policy = policy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rules):
            return NotImplemented
        if self.written is other.written:
            return True
        return self.policy is other.policy and all(
            getattr(self.written, key) == getattr(other.written, key) for key in _RULES
        )

    def __hash__(self) -> int:
        return hash(self.written.service)


def builtin_rules(endpoint: Endpoint) -> object:
    """Return the rules of one of the gateway's own endpoints."""
    if endpoint.access == "public":
        return UNPROTECTED
    return (
        endpoint.access,
        endpoint.area,
        endpoint.shared,
        endpoint.methods,
        endpoint.max_body,
        endpoint.limited,
    )
