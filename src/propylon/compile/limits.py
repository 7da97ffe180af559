"""Compile the limits of routes, services and `defaults` into the stage of each route.

Stages are remembered by what they are made of: a route keeps its stage over a reload that does not touch its limits, and
so the route itself. The counts are in the store, by the identity of each limit, and stay whatever is compiled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from propylon.config.models.auth import TokenRateLimitConfig
from propylon.config.models.limits import DEFAULT_NAME, LimitConfig
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.proxy.authenticate.claims import MISSING, claim_at
from propylon.proxy.counts import Counts
from propylon.proxy.limit.charge import header_cost
from propylon.proxy.limit.in_flight import InFlight
from propylon.proxy.limit.keys import (
    KeyOf,
    by_address,
    by_caller,
    by_claim,
    by_header,
    by_name,
    joined,
)
from propylon.proxy.limit.rule import MICROSECONDS, LimitStore, Rule
from propylon.proxy.limit.stage import Charge, Limit, LimitStage, Price
from propylon.proxy.principal import Principal

__all__ = ["LimitCompiler", "Tallies", "TeamCosts", "labels_of_limits", "names_of_limits"]

_TOKENS = "tokens"
_DEFAULTS = "defaults"
_IPV6_BITS = 64


class Tallies(Protocol):
    """Where decisions are counted: `telemetry.metrics.Metrics` fills it."""

    def limit(self, limit: str) -> Counts:
        """Return how many requests a limit allowed, refused, and would have refused: the same row each time."""


class TeamCosts(NamedTuple):
    """What a team's functions say of one route: a price before it is forwarded, a charge after it was answered.

    Each is for one limit of the route, by its name, or for all (None).
    """

    price: Price | None = None
    priced: str | None = None
    charge: Charge | None = None
    charged: str | None = None


_NOTHING = TeamCosts()


class _Placed(NamedTuple):
    """A limit as it is written, where it counts, and what it is called in headers."""

    place: str
    written: LimitConfig
    name: str


def names_of_limits(config: GatewayConfig, route: str) -> list[str]:
    """Return the names of the limits of the routes of that name."""
    found: dict[str, None] = {}
    for written in config.routes:
        if written.name == route:
            own = config.defaults.rate_limit if written.rate_limit is None else written.rate_limit
            services = [config.limits_of_service(target) for target in written.targets]
            for limits in (own, *services):
                found |= dict.fromkeys(limit.label for limit in limits or ())
    return list(found)


def labels_of_limits(config: GatewayConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the path of each limit that routes have, and what metrics call it; some of them more than once."""
    for at, route in enumerate(config.routes):
        own: tuple[str | int, ...] = ("routes", at, "rate_limit")
        place, limits = "", route.rate_limit
        if limits is None:
            own, place, limits = ("defaults", "rate_limit"), _DEFAULTS, config.defaults.rate_limit
        elif limits:
            place = _place(config, route)
        every: list[tuple[tuple[str | int, ...], str, tuple[LimitConfig, ...]]]
        every = [(own, place, limits or ())]
        for target in route.targets:
            service = ("services", target.service, "rate_limit")
            shared = config.limits_of_service(target)
            every.append((service, f"service:{target.service}", shared or ()))
        for path, where, some in every:
            for number, limit in enumerate(some):
                yield (*path, number) if len(some) > 1 else path, f"{where}/{limit.label}"


@dataclass(slots=True)
class LimitCompiler:
    """Makes the limit stages of all routes, for one configuration after the other."""

    store: LimitStore
    tallies: Tallies
    _stages: WeakValueDictionary[object, LimitStage] = field(default_factory=WeakValueDictionary)
    _in_flight: dict[tuple[str, int], InFlight] = field(default_factory=dict)
    _addresses: dict[int, KeyOf] = field(default_factory=dict)

    def of_route(
        self, config: GatewayConfig, route: RouteConfig, teams: Mapping[str, TeamCosts]
    ) -> LimitStage | None:
        """Return the stage of a route of the file; None: it has no limit."""
        own = config.defaults.rate_limit if route.rate_limit is None else route.rate_limit
        service = config.limits_of_service(route)
        if not own and not service:
            return None  # said first, for the thousands of routes of which it is true
        place = _DEFAULTS if route.rate_limit is None else _place(config, route)
        placed = _named_apart(place, own or (), f"service:{route.service}", service or ())
        team = teams.get(route.name, _NOTHING)
        # A limit that routes share is one that answers may overdraw as soon as one of the routes is charged.
        shared = any(one.charge is not None for one in teams.values())
        key = (placed, route.name, route.service, team, shared)
        if (known := self._stages.get(key)) is None:
            limits = [self._limit(one, route, team, shared=shared) for one in placed]
            known = self._stages[key] = LimitStage(limits, self.store, team.price, team.charge)
        return known

    def of_tokens(self, written: TokenRateLimitConfig) -> LimitStage:
        """Return the stage of the endpoints whose requests each cost the hash of a password."""
        if (known := self._stages.get(written)) is None:
            rate = written.rate
            period = int(rate.seconds) * MICROSECONDS
            rule = Rule(_TOKENS, DEFAULT_NAME, rate.amount, period, written.burst)
            key = by_name("") if written.key == "route" else self._address(_IPV6_BITS)
            tally = self.tallies.limit(rule.id)
            limit = Limit(rule, DEFAULT_NAME, key, tally, cost=1, by=(written.key,))
            known = self._stages[written] = LimitStage([limit], self.store)
        return known

    def _limit(
        self, placed: _Placed, route: RouteConfig, team: TeamCosts, *, shared: bool
    ) -> Limit:
        written, label = placed.written, placed.written.label
        charged = team.charge is not None and team.charged in {None, label}
        common = shared and not placed.place.startswith("route:")
        rule = _rule(placed, charged=charged or common or written.charge is not None)
        cost = written.cost
        if cost is None and (team.price is None or team.priced not in {None, label}):
            cost = 1
        return Limit(
            rule,
            placed.name,
            self._key(written, route),
            self.tallies.limit(rule.id),
            rated=written.rate is not None,
            cost=cost,
            charge=(
                None if written.charge is None else header_cost(written.charge.partition(":")[2])
            ),
            charged=charged,
            in_flight=self._entrance(rule.id, written.in_flight),
            by=written.key,
        )

    def _entrance(self, limit: str, most: int | None) -> InFlight | None:
        if most is None:
            return None
        # The same one after a reload: it has the requests that are in flight.
        return self._in_flight.setdefault((limit, most), InFlight(most))

    def _key(self, written: LimitConfig, route: RouteConfig) -> KeyOf:
        address = self._address(written.ipv6_prefix)
        return joined([_part(key, address, route) for key in written.key])

    def _address(self, bits: int) -> KeyOf:
        return self._addresses.setdefault(bits, by_address(bits))


def _place(config: GatewayConfig, route: RouteConfig) -> str:
    """Return where a route's own limit counts: its name; with its methods, if several routes have that name."""
    names = Counter(other.name for other in config.routes if other.rate_limit)
    methods = f" {','.join(route.methods)}" if names[route.name] > 1 else ""
    return f"route:{route.name}{methods}"


def _named_apart(
    place: str, own: tuple[LimitConfig, ...], service_place: str, service: tuple[LimitConfig, ...]
) -> tuple[_Placed, ...]:
    """Return all limits of a route; where a service's has the name of another one, headers say whose it is."""
    names = {limit.label for limit in own}
    return (
        *(_Placed(place, limit, limit.label) for limit in own),
        *(
            _Placed(
                service_place,
                limit,
                limit.label if limit.label not in names else f"service:{limit.label}",
            )
            for limit in service
        ),
    )


def _rule(placed: _Placed, *, charged: bool) -> Rule:
    written = placed.written
    shadow = written.mode == "shadow"
    if written.rate is None:  # only what is in flight is limited
        return Rule(placed.place, written.label, 1, MICROSECONDS, 1, shadow=shadow)
    rate = written.rate
    return Rule(
        placed.place,
        written.label,
        rate.amount,
        int(rate.seconds) * MICROSECONDS,
        rate.amount if written.burst is None else written.burst,
        sliding=written.window == "sliding",
        shadow=shadow,
        charged=charged,
        on_failure=written.on_store_failure,
    )


def _part(key: str, address: KeyOf, route: RouteConfig) -> KeyOf:
    kind, _, name = key.partition(":")
    match kind:
        case "header":
            return by_header(name, address)
        case "claim":
            return by_claim(_claim(name), address)
        case "route":
            return by_name(route.name)
        case "service":
            return by_name(route.service)
        case "caller":
            return by_caller(address)
    return address


def _claim(path: str) -> Callable[[Principal], object]:
    def read(principal: Principal) -> object:
        value = claim_at(principal.claims, path)
        return None if value is MISSING else value

    return read
