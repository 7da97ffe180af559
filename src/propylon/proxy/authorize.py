"""AUTHORIZE: decide whether a principal may use a route, by scopes, roles, issuer and address. Pure.

Facts. The address of a socket is that of the client only if no proxy stands in between. A proxy that the operator did
not name among `trusted_proxies` is not believed, but its headers show that it is there. A proxy on this machine makes
every client look local.

Rules.

1. A client is on this machine if the socket is, and no header says that a proxy forwarded the request. A PROXY header
   that says "loopback" means the machine of the proxy.
2. A client is in a network if its address is, and the address is believed: of the socket without a proxy, or what a
   trusted proxy says. A trusted proxy that says "loopback" means its own machine.
3. What cannot be told is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from propylon.errors import AuthError, Forbidden
from propylon.proxy.challenge import insufficient, missing, unlike
from propylon.proxy.principal import Principal
from propylon.proxy.route import Authorize, Sender
from propylon.wire.headers import values
from propylon.wire.message import Request

__all__ = [
    "AdminRule",
    "Authorize",
    "ClientsRule",
    "LocalRule",
    "Network",
    "anybody",
    "permitted",
]

Network = IPv4Network | IPv6Network

# A proxy says these of its client, or of itself (`Via`, RFC 9110, 7.6.3). `X-Forwarded-` is the beginning of many.
_PROXY_HEADERS = frozenset({b"forwarded", b"x-real-ip"})
_FORWARDED = b"x-forwarded"


def anybody(principal: Principal, request: Request, sender: Sender) -> None:
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

    def authorize(principal: Principal, request: Request, sender: Sender) -> None:  # noqa: ARG001
        if needed <= principal.scopes and (not any_of or not any_of.isdisjoint(principal.roles)):
            return
        raise _refusal(principal, needed, any_of)

    return authorize


@dataclass(frozen=True, slots=True)
class AdminRule:
    """The rule of the endpoints that want admin: one of the scopes, and everything else that is set.

    `scopes` are the scope that opens all these endpoints, and a narrower one of this endpoint. `networks` None: the
    client may be anywhere.
    """

    scopes: tuple[str, ...]
    role: str | None = None
    issuer: str | None = None
    networks: tuple[Network, ...] | None = None

    def __call__(self, principal: Principal, request: Request, sender: Sender) -> None:
        """Let the request pass, or raise AuthError for an anonymous client and Forbidden for others."""
        self.check_token(principal)
        if self.networks is not None and not _is_in(self.networks, request, sender):
            msg = "Requests from this address are not permitted"
            raise insufficient(msg)

    def __str__(self) -> str:
        """Return the rule in words, for `propylon routes`."""
        words = [f"scope {' or '.join(reversed(self.scopes))}"]
        words += [f"role {self.role}"] if self.role is not None else []
        words += [f"issuer {self.issuer}"] if self.issuer is not None else []
        words += [f"from {', '.join(map(str, self.networks))}"] if self.networks else []
        return ", ".join(words)

    def check_token(self, principal: Principal) -> None:
        """Check all but the address; raise as above."""
        if self.scopes and principal.scopes.isdisjoint(self.scopes):
            # The narrowest is the one to ask for (RFC 6750, 3: "the scope necessary to access the resource").
            raise _refusal(principal, frozenset(self.scopes[-1:]))
        if self.role is not None and self.role not in principal.roles:
            raise _refusal(principal, frozenset(), frozenset((self.role,)))
        if self.issuer is not None and principal.claims.get("iss") != self.issuer:
            said = unlike(
                "not of the issuer that admin.issuer names",
                principal.claims.get("iss"),
                [self.issuer],
            )
            raise _refusal(principal, frozenset(), reason=said)


@dataclass(frozen=True, slots=True)
class LocalRule:
    """The rule of /metrics: clients on this machine and in `networks` pass; for others `otherwise` decides.

    A Prometheus beside the gateway needs no token then.
    """

    networks: tuple[Network, ...]
    otherwise: AdminRule

    def __call__(self, principal: Principal, request: Request, sender: Sender) -> None:
        """Let the request pass, or raise what `otherwise` raises."""
        if _is_local(request, sender) or _is_in(self.networks, request, sender):
            return
        self.otherwise(principal, request, sender)

    def __str__(self) -> str:
        """Return the rule in words, for `propylon routes`."""
        return ", or ".join(["loopback", *map(str, self.networks), str(self.otherwise)])


@dataclass(frozen=True, slots=True)
class ClientsRule:
    """Whose requests a route takes, by the address of the client: those in `allow`, or all if it is empty; none in `deny`.

    An address that cannot be told is in no network of `allow`. It is in `deny`, or nobody knows.
    """

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()

    def __call__(self, request: Request, sender: Sender) -> None:
        """Let the request pass, or raise Forbidden."""
        if self.deny:
            # Not `_believed`: what an unknown proxy hides is no reason to let the proxy itself pass.
            address = _parsed(sender.client)
            if address is None or any(address in network for network in self.deny):
                key = "deny"
                raise self._refusal(key)
        if self.allow and not _is_in(self.allow, request, sender):
            key = "allow"
            raise self._refusal(key)

    @staticmethod
    def _refusal(key: str) -> Forbidden:
        msg = "Requests from this address are not permitted"
        return Forbidden(msg, reason=f"by clients.{key}, or the client's address cannot be told")


def _is_local(request: Request, sender: Sender) -> bool:
    """Tell whether the client is on this machine; a client without an address is not."""
    address = _parsed(sender.peer)
    local = address is not None and address.is_loopback and not sender.proxied
    return local and not _is_forwarded(request)


def _is_in(networks: tuple[Network, ...], request: Request, sender: Sender) -> bool:
    address = _believed(request, sender)
    return address is not None and any(address in network for network in networks)


def _believed(request: Request, sender: Sender) -> IPv4Address | IPv6Address | None:
    """Return the address of the client, if it can be told."""
    address = _parsed(sender.client)
    if not _is_forwarded(request):
        return None if address is not None and address.is_loopback and sender.proxied else address
    # `client` is still the peer if the proxy named no client, or is not trusted.
    if address is None or not sender.trusted or sender.client == sender.peer:
        return None
    return None if address.is_loopback else address


def _is_forwarded(request: Request) -> bool:
    """Tell whether a proxy between the client and the gateway has forwarded the request."""
    return (
        any(name in _PROXY_HEADERS or name.startswith(_FORWARDED) for name in request.special)
        # Line by line only if there may be one.
        or (b"via" in request.block.lower() and bool(values(request.block, b"via")))
    )


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:  # a Unix socket, or a test client
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address  # a dual-stack socket shows 127.0.0.1 as ::ffff:127.0.0.1


def _refusal(
    principal: Principal,
    scopes: frozenset[str],
    roles: frozenset[str] = frozenset(),
    *,
    reason: str = "",
) -> AuthError:
    """Return 401 for an anonymous principal, which may log in, and 403 for others (RFC 6750, 3.1)."""
    if not principal.known:
        return missing()
    return insufficient(
        "The token does not permit this", scopes, reason or _lacking(principal, scopes, roles)
    )


def _lacking(principal: Principal, scopes: frozenset[str], roles: frozenset[str]) -> str:
    """Return what the rule asks for and what the token has, for the log."""
    said = []
    if not scopes <= principal.scopes:
        has = " ".join(sorted(principal.scopes)) or "none"
        said.append(f"needs the scopes {' '.join(sorted(scopes))}, and the token has {has}")
    if roles and roles.isdisjoint(principal.roles):
        has = ", ".join(sorted(principal.roles)) or "none"
        said.append(f"needs a role of {', '.join(sorted(roles))}, and the token has {has}")
    return "; ".join(said)
