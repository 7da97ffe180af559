"""Let endpoints ask whether their caller may do what wants admin, by the rules of the configuration in force.

The routes of endpoints that only admins use have the rule themselves (`compile.routes`): the request has passed it when
the endpoint is called. The dependency here checks the token once more, so that the app alone is not open, and shows the
scope in the OpenAPI document. An endpoint that does less for other callers asks `judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import HTTPConnection

from propylon.config.models.endpoints import PUBLIC, Area
from propylon.control.identity import caller_of, require
from propylon.errors import AuthError
from propylon.proxy.authorize import AdminRule
from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import Principal
from propylon.upstream.inprocess import CONTEXT

__all__ = ["ADMIN", "AdminGate", "exchange_of"]

ADMIN = "admin"
_DEFAULT = AdminRule((ADMIN,))


class AdminGate:
    """The rules of the endpoints that want admin. A reload replaces them."""

    def __init__(self) -> None:
        """Begin with the default: the scope `admin`, from anywhere, on the public listener."""
        self._rules: Mapping[Area, AdminRule] = {}
        self._listener = PUBLIC

    def apply(self, rules: Mapping[Area, AdminRule], listener: str) -> None:
        """Put rules in force, and the listener on which these endpoints are."""
        self._rules, self._listener = rules, listener

    def requires(self, area: Area = "admin") -> Any:
        """Return a dependency that lets callers pass whose token opens this group of endpoints."""
        return require(f"admin({area})", self._checks(area), self._rule(area).scopes[-1:])

    def _checks(self, area: Area) -> Callable[[Principal], None]:
        def check(principal: Principal) -> None:
            self._rule(area).check_token(principal)

        return check

    def admits(self, scopes: frozenset[str], roles: frozenset[str]) -> bool:
        """Tell whether a user with these may use the endpoints that only `admin.scope` opens, wherever the user is."""
        rule = self._rule("admin")
        opens = not rule.scopes or not scopes.isdisjoint(rule.scopes)
        return opens and (rule.role is None or rule.role in roles)

    def judge(self, area: Area, connection: HTTPConnection) -> Principal:
        """Return the caller: with the scope `admin` exactly if the rules permit it here. The caller may be anonymous.

        A token with the scope is not enough: the rules may ask for an issuer, an address, or the other listener.
        """
        principal = caller_of(connection)
        others = principal.scopes - {ADMIN}
        permitted = self._permits(area, principal, exchange_of(connection))
        return replace(principal, scopes=others | {ADMIN} if permitted else others)

    def _permits(self, area: Area, principal: Principal, exchange: Exchange | None) -> bool:
        rule = self._rule(area)
        try:
            if exchange is None or exchange.request is None:
                rule.check_token(principal)
                return rule.networks is None and self._listener == PUBLIC
            rule(principal, exchange.request, exchange.downstream.origin)
        except AuthError:
            return False
        return exchange.route is not None and exchange.route.listener == self._listener

    def _rule(self, area: Area) -> AdminRule:
        return self._rules.get(area, _DEFAULT)


def exchange_of(connection: HTTPConnection) -> Exchange | None:
    """Return the exchange behind a call of the app; None if the gateway is not in front."""
    found = (connection.scope.get("state") or {}).get(CONTEXT)
    return found if isinstance(found, Exchange) else None
