"""Compile `basic_auth` into the authenticate stage of a route.

Routes with the same file share the users who have shown their password, and so does the same file after a reload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from weakref import WeakValueDictionary

from propylon.config.models.basic_auth import BasicAuthConfig
from propylon.config.models.route import RouteConfig
from propylon.proxy.authenticate import always, unverifiable
from propylon.proxy.authenticate.basic import BasicAuth, Logins, Means
from propylon.proxy.principal import Principal
from propylon.proxy.route import Authenticate

__all__ = ["BasicCompiler", "Overridden", "Users", "credentials_of", "of_users"]


class Users(Protocol):
    """Makes the authenticate stages of routes with `basic_auth`."""

    def stage(self, config: BasicAuthConfig) -> Authenticate:
        """Return what authenticates the requests of a route."""


class Overridden:
    """In a test of a team: everyone is the same principal, and no password is asked for."""

    def __init__(self, principal: Principal) -> None:
        self._stage = always(principal)

    def stage(self, config: BasicAuthConfig) -> Authenticate:  # noqa: ARG002 — as `Users`
        """Return the same stage for all routes."""
        return self._stage


class BasicCompiler:
    """Makes the stages of all routes, for one configuration after the other."""

    def __init__(self, means: Callable[[], Means]) -> None:
        """`means` is called when a route first has `basic_auth`: hashes take a library that most gateways do not need."""
        self._open = means
        self._means: Means | None = None
        self._known: WeakValueDictionary[tuple[str, str], Logins] = WeakValueDictionary()

    def stage(self, config: BasicAuthConfig) -> BasicAuth:
        """Return what authenticates the requests of a route."""
        return BasicAuth(self._logins(config), config.user_header)

    def _logins(self, config: BasicAuthConfig) -> Logins:
        key = (config.file.get_secret_value(), config.realm)
        known = self._known.get(key)
        if known is None:
            if self._means is None:
                self._means = self._open()
            known = self._known[key] = Logins(config.users, config.realm, self._means)
        return known


def of_users(stage: Authenticate, route: RouteConfig, basic: Users | None) -> Authenticate:
    """Return the authenticate stage of a route: for one with `basic_auth`, that of its users.

    `stage` is what the route has otherwise. Without a compiler, as where nothing is served, nobody can log in.
    """
    if not route.basic_auth:
        return stage
    return unverifiable if basic is None else basic.stage(route.basic_auth)


def credentials_of(route: RouteConfig) -> tuple[bytes, ...]:
    """Return the header that is not for the service: it would hold the users' passwords."""
    return (b"authorization",) if route.basic_auth and not route.basic_auth.forward else ()
