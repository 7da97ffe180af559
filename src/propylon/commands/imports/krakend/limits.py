"""Rates of KrakenD: token buckets, for a route, a client or a backend."""

from __future__ import annotations

from math import ceil
from typing import Any

from propylon.commands.imports.parts import Route
from propylon.commands.imports.rates import rate, seconds_of
from propylon.commands.imports.tree import Item

__all__ = ["limit", "router_limits"]

_TUNING = ("num_shards", "cleanup_period", "cleanup_threads", "@comment")


def limit(
    name: str, number: Item, capacity: Item, every: float, key: str
) -> tuple[dict[str, Any] | None, bool]:
    """Return a limit, and whether it is just the one that was written; None if it cannot be written."""
    text, exact = rate(number.number(), every)
    if not text:
        return None, False
    burst = ceil(capacity.number()) or ceil(number.number())
    return {"name": name, "rate": text, "burst": burst, "key": key}, exact


def router_limits(route: Route, config: Item) -> None:
    """Translate qos/ratelimit/router: one limit for all callers, one for each."""
    every = seconds_of(config.get("every").text("1s"))
    made = []
    exact = True
    kinds = (
        ("max_rate", "capacity", "route"),
        ("client_max_rate", "client_capacity", _client(route, config)),
    )
    for number, capacity, key in kinds:
        wanted = config.get(number)
        config.get(capacity)
        if not wanted.number():
            continue
        one, fits = limit(number, wanted, config.get(capacity), every or 0, key)
        if one is None or not key:
            route.close(wanted.at, "a rate that propylon cannot write", "write rate_limit")
            continue
        made.append(one)
        exact = exact and fits
    if made:
        difference = "the status is 429, for all callers together, too" + (
            "" if exact else "; the rate is rounded down"
        )
        route.set("rate_limit", made, config.at, difference, protects=True)
    config.ignore(*_TUNING)
    route.close_untaken(config)


def _client(route: Route, config: Item) -> str:
    """Return by what callers are told apart; empty if there is no such key."""
    strategy = config.get("strategy").text("ip")
    name = config.get("key").text()
    if strategy == "ip":
        return f"header:{name}" if name else "ip"
    if strategy == "header":
        return "caller" if name.lower() == "authorization" else f"header:{name}"
    if config.get("client_max_rate").number():
        route.close(config.get("strategy").at, f"a limit by {strategy} {name}")
    return ""
