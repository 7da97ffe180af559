"""AUTHORIZE: decide whether a principal may use a route, by scopes and roles. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address

from propylon.errors import AuthError
from propylon.proxy.challenge import insufficient, missing
from propylon.proxy.principal import Principal

__all__ = ["anybody", "loopback_or", "permitted"]

Authorize = Callable[[Principal, str], None]


def anybody(principal: Principal, client: str) -> None:
    """Let every authenticated request pass: the route asks for neither scopes nor roles."""


def permitted(scopes: Iterable[str], roles: Iterable[str]) -> Authorize:
    """Return the rule of a route: all of `scopes`, and any of `roles` if there are some.

    All of the scopes, as FastAPI's Security(scopes=...) has it: they say what a client may do, and a route may
    need several permissions. Any of the roles: they say what a user is, and either one will do.
    """
    # A rule without scopes and roles is a function of its own, so that such routes do no set arithmetic.
    needed, any_of = frozenset(scopes), frozenset(roles)
    if not needed and not any_of:
        return anybody

    def authorize(principal: Principal, client: str) -> None:  # noqa: ARG001
        if needed <= principal.scopes and (not any_of or not any_of.isdisjoint(principal.roles)):
            return
        raise _refusal(principal, needed)

    return authorize


def loopback_or(scope: str) -> Authorize:
    """Return the rule for /metrics: clients on this machine pass, others need the scope.

    A Prometheus beside the gateway needs no token then. A reverse proxy on this machine must be among the
    `trusted_proxies`, or all of its clients look local.
    """

    def authorize(principal: Principal, client: str) -> None:
        if scope in principal.scopes or _is_loopback(client):
            return
        raise _refusal(principal, frozenset({scope}))

    return authorize


def _is_loopback(client: str) -> bool:
    """Tell whether an address is loopback; a client without an address is not."""
    try:
        address = ip_address(client)
    except ValueError:  # a Unix socket, or a test client
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # a dual-stack socket shows 127.0.0.1 as ::ffff:127.0.0.1
    return address.is_loopback


def _refusal(principal: Principal, scopes: frozenset[str]) -> AuthError:
    """Return 401 for an anonymous principal, which may log in, and 403 for others (RFC 6750, 3.1)."""
    if not principal.known:
        return missing()
    return insufficient("The token does not permit this", scopes)
