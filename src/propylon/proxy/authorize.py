"""AUTHORIZE: may they. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address

from propylon.errors import AuthError
from propylon.proxy.challenge import insufficient, missing
from propylon.proxy.principal import Principal

__all__ = ["anybody", "loopback_or", "permitted"]

Authorize = Callable[[Principal, str], None]


def anybody(principal: Principal, client: str) -> None:
    """Let everybody pass who was let in."""


def permitted(scopes: Iterable[str], roles: Iterable[str]) -> Authorize:
    """Return the rule that asks for all of the scopes, and for any of the roles if there are some."""
    needed, any_of = frozenset(scopes), frozenset(roles)
    if not needed and not any_of:
        return anybody

    def authorize(principal: Principal, client: str) -> None:  # noqa: ARG001
        if needed <= principal.scopes and (not any_of or not any_of.isdisjoint(principal.roles)):
            return
        raise _refusal(principal, needed)

    return authorize


def loopback_or(scope: str) -> Authorize:
    """Return the rule that lets pass who asks from this machine, or has the scope."""

    def authorize(principal: Principal, client: str) -> None:
        if scope in principal.scopes or _is_loopback(client):
            return
        raise _refusal(principal, frozenset({scope}))

    return authorize


def _is_loopback(client: str) -> bool:
    """Whether an address is this machine's own loopback; a client without an address is not."""
    try:
        address = ip_address(client)
    except ValueError:  # a Unix socket, or a test
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # a listener for both protocols sees IPv4 so
    return address.is_loopback


def _refusal(principal: Principal, scopes: frozenset[str]) -> AuthError:
    """Ask those who are not known to say who they are (401); refuse the others (403, RFC 6750, 3.1)."""
    if not principal.known:
        return missing()
    return insufficient("The token does not permit this", scopes)
