"""Compile `auth.from`, the places where tokens are looked for, and the claims that a service gets as headers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from itertools import chain
from typing import NamedTuple

from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.token_syntax import is_of_callers
from propylon.proxy.authenticate import anonymous, unverifiable, unverifiable_if_asked
from propylon.proxy.authenticate.accepted import AcceptedIssuers
from propylon.proxy.authenticate.carriers import (
    Authorization,
    Carrier,
    Cookie,
    Header,
    TokenFinder,
    hidden,
    unverifiable_if_found,
)
from propylon.proxy.authenticate.claim_headers import ClaimHeaders
from propylon.proxy.authenticate.sockets import SOCKET, unverifiable_if_offered
from propylon.proxy.route import Authenticate
from propylon.wire.lookalikes import reduced

__all__ = [
    "Vouched",
    "about_caller",
    "beside_certificate",
    "compile_carriers",
    "compile_hiding",
    "in_turn",
    "passed_claims",
    "stages_without_keys",
    "trusting",
    "vouched_names",
]

_ONLY_HEADER = ("header",)
# Routes and services that are looked at before the loop gets a turn: a fifth of a millisecond.
_SLICE = 512


def compile_carriers(written: tuple[str, ...]) -> tuple[Carrier, ...]:
    """Return the places of `auth.from`, where tokens are looked for; empty for the header Authorization alone."""
    return () if written == _ONLY_HEADER else tuple(map(_carrier, written))


def _carrier(written: str) -> Carrier:
    kind, _, name = written.partition(":")
    if kind == "cookie":
        return Cookie(name)
    return Header(name.lower().encode("ascii")) if name else Authorization()


def stages_without_keys(written: tuple[str, ...]) -> Mapping[str, Authenticate]:
    """Return the authenticate stage for each value of a route's `auth`, where there is nothing to verify with.

    `written` is `auth.from`.
    """
    carriers = compile_carriers(written)
    asked = unverifiable_if_found(carriers) if carriers else unverifiable_if_asked
    return {
        "none": anonymous,
        "optional": asked,
        "required": unverifiable,
        "offered": asked,
        SOCKET + "optional": unverifiable_if_offered(carriers),
    }


def trusting(
    stages: Mapping[str, Authenticate], trusted: Callable[[bytes], bool]
) -> Mapping[str, Authenticate]:
    """Return the stages with other origins whose pages may send requests with the cookie that holds the token."""
    return {
        name: stage.trusting(trusted) if isinstance(stage, TokenFinder) else stage
        for name, stage in stages.items()
    }


def compile_hiding(config: GatewayConfig, service: str) -> Callable[[bytes], bytes] | None:
    """Return what takes the tokens out of a block for a service with `forward_token: false`.

    None if there is no place but the header Authorization, which `outgoing` takes out by itself.
    """
    carriers = compile_carriers(config.auth.carriers)
    written = config.services.get(service)
    if not carriers or written is None or written.forward_token:
        return None
    return hidden(carriers)


def in_turn(
    first: Callable[[bytes], bytes] | None, second: Callable[[bytes], bytes] | None
) -> Callable[[bytes], bytes] | None:
    """Return what does both to a block; None if there is nothing to do."""
    if first is None or second is None:
        return first or second
    return lambda block: second(first(block))


class Vouched(NamedTuple):
    """Headers that say who is asking, `reduced`: those that carry claims, and those together with all others."""

    claims: frozenset[bytes]
    every: frozenset[bytes]

    def beside(self, others: frozenset[bytes]) -> Vouched:
        """Return these, with others that carry no claims."""
        return self._replace(every=self.every | others)


def vouched_names(config: GatewayConfig) -> Generator[None, None, Vouched]:
    """Collect the headers that say who is asking on any route, in slices.

    What a client sends under these names is removed on every route: a service that trusts X-Tenant would otherwise
    believe the client wherever another route leads to it.
    """
    claims: set[bytes] = set()
    others: set[bytes] = set()
    services = ((service.claims, ()) for service in config.services.values())
    routes = ((route.claims, _told_of_user(route)) for route in config.routes)
    for at, (carried, told) in enumerate(chain(services, routes)):
        claims.update(reduced(name.encode("ascii")) for name in carried)
        others.update(reduced(name.encode("ascii")) for name in told)
        if at % _SLICE == 0:
            yield
    return Vouched(frozenset(claims), frozenset(claims | others))


def _told_of_user(route: RouteConfig) -> tuple[str, ...]:
    """Return the headers that carry the user of `basic_auth`, and what the answer of `forward_auth` says.

    Not those that no client can send in any case (X-User-Id), nor Authorization, which other routes need.
    """
    header = route.basic_auth.user_header if route.basic_auth else None
    taken = route.forward_auth.headers if route.forward_auth else ()
    names = (*taken, *([header] if header else []))
    return tuple(
        name for name in names if not is_of_callers(low := name.lower()) and low != "authorization"
    )


def about_caller(stage: Authenticate, route: RouteConfig, config: GatewayConfig) -> Authenticate:
    """Return the authenticate stage of a route, with the route's `issuers` and the claims that its service gets."""
    if route.auth == "none":
        return stage
    if route.issuers:
        stage = AcceptedIssuers(stage, route.issuers)
    claims = passed_claims(route, config)
    return ClaimHeaders(stage, claims.items()) if claims else stage


def beside_certificate(
    stages: Mapping[str, Authenticate], route: RouteConfig, config: GatewayConfig
) -> Authenticate | None:
    """Return what authenticates clients with a certificate on a route; None where a certificate counts for nothing."""
    # `issuers` names the only ones whose word counts on the route, and an authority of `tls.clients` is none of them.
    if config.tls.clients is None or route.auth == "none" or route.issuers:
        return None
    return about_caller(stages["optional"], route, config)


def passed_claims(route: RouteConfig, config: GatewayConfig) -> dict[str, str]:
    """Return the paths of the claims that a route's service gets, by header; the route's come over the service's."""
    if route.auth == "none":
        return {}
    return dict(dict(_claims(route, config)).values())


def _claims(route: RouteConfig, config: GatewayConfig) -> Iterable[tuple[str, tuple[str, str]]]:
    service = config.services.get(route.service)
    # What the operator sets or removes by hand replaces the claim, as it does with the gateway's other headers.
    rules = route.headers.request
    by_hand = {name.lower() for name in (*rules.set, *rules.remove)}
    for claims in (service.claims if service is not None else {}, route.claims):
        for header, path in claims.items():
            if header.lower() not in by_hand:
                yield header.lower(), (header, path)
