"""Filters that limit, retry, break and fall back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route
from propylon.commands.imports.rates import duration, rate, seconds_of
from propylon.commands.imports.spring.properties import Step
from propylon.commands.imports.tree import Item

__all__ = ["circuit_breaker", "local_cache", "rate_limiter", "request_size", "retry"]

_STATUSES = {
    "INTERNAL_SERVER_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "BAD_GATEWAY": 502,
    "SERVICE_UNAVAILABLE": 503,
    "GATEWAY_TIMEOUT": 504,
}
_SIZE = re.compile(r"(?P<number>\d+)(?P<unit>B|KB|MB|GB)?", re.IGNORECASE)
_UNITS = {"KB": "KiB", "MB": "MiB", "GB": "GiB"}
_FAILURES = ["open-circuit", "connect-failure", "reset", "timeout"]


def rate_limiter(route: Route, step: Step) -> None:
    """Translate RequestRateLimiter, a token bucket in Redis."""
    refill = _number(step, "redis-rate-limiter.replenishRate", "replenishRate")
    burst = _number(step, "redis-rate-limiter.burstCapacity", "burstCapacity") or refill
    cost = _number(step, "redis-rate-limiter.requestedTokens", "requestedTokens") or 1
    text, exact = rate(refill, cost)
    if not text or step.value(9, "rate-limiter"):
        route.close(step.at, "a limit that propylon cannot write", "write rate_limit")
        return
    limit = {"name": "requests", "rate": text, "burst": max(1, int(burst // cost)), "key": "caller"}
    said = "counted for the user of the token, else the address; machines share limits by the section redis"
    route.set(
        "rate_limit",
        [limit],
        step.at,
        said + ("" if exact else "; the rate is rounded down"),
        protects=True,
    )
    if resolver := step.value(9, "key-resolver"):
        route.lost(
            step.at,
            f"the bean {resolver} says by what is counted, and it is Java",
            "look at rate_limit.key",
        )


def _number(step: Step, *names: str) -> float:
    text = step.value(9, *names)
    item = step.item("redis-rate-limiter")
    if not text and isinstance(item, Item):
        text = item.get(names[1]).text()
    return float(text) if re.fullmatch(r"\d+(?:\.\d+)?", text) else 0


def request_size(route: Route, step: Step) -> None:
    """Translate RequestSize; Spring's MB is 2^20 bytes."""
    found = _SIZE.fullmatch(step.value(0, "maxSize") or "5MB")
    if found is None:
        route.close(step.at, "a size that propylon cannot read", "write max_body")
        return
    unit = _UNITS.get((found["unit"] or "B").upper(), "")
    route.set(
        "max_body",
        f"{found['number']}{unit}" if unit else int(found["number"]),
        step.at,
        protects=True,
    )


def retry(route: Route, step: Step, draft: Draft) -> None:
    """Translate Retry into the service's; all routes of the service share it."""
    service = draft.services.get(str(route.keys.get("service", "")))
    if service is None:
        return
    retries = step.value(0, "retries")
    keys: dict[str, Any] = {"attempts": int(retries) + 1 if retries.isdigit() else 4}
    statuses = [
        _STATUSES[name]
        for name in re.split(r"[,\s]+", step.value(1, "statuses"))
        if name in _STATUSES
    ]
    keys["on"] = ["connect-failure", "reset", "timeout", *(statuses or [500, 502, 503, 504])]
    if "POST" in step.value(2, "methods"):
        keys["non_idempotent"] = True
    backoff = step.item("backoff")
    first = backoff.get("firstBackoff").text() if backoff is not None else step.value(3)
    if seconds := seconds_of(first):
        keys["backoff"] = duration(seconds)
    service.set(
        "retry",
        keys,
        step.at,
        "all idempotent methods are retried, on all routes of the service, within retry.budget",
    )


def circuit_breaker(route: Route, step: Step, fallbacks: dict[str, Callable[[], str]]) -> None:
    """Translate CircuitBreaker. `fallbacks` are the services of other routes by their exact path."""
    route.differs(
        step.at,
        "the circuit is the service's: its numbers are services.X.circuit, not those of Resilience4J",
    )
    uri = step.value(1, "fallbackUri")
    if not uri:
        return
    path = uri.removeprefix("forward:")
    find = fallbacks.get(path)
    if find is None:
        route.lost(
            step.at,
            f"the fallback {uri} is answered by Java code in the gateway",
            "write fallback: {respond: {status: 503, body: …}}, or fallback: {service: …}",
        )
        return
    service = find()
    keys: dict[str, Any] = {"service": service, "on": [*_FAILURES, *_codes(step)]}
    route.set("fallback", keys, step.at, f"{service} gets the path of the request, not {path}")


def _codes(step: Step) -> list[int]:
    item = step.item("statusCodes")
    texts = item.texts() if item is not None else []
    return [
        int(text) if text.isdigit() else _STATUSES[text]
        for text in texts
        if text.isdigit() or text in _STATUSES
    ]


def local_cache(route: Route, step: Step) -> None:
    """Translate LocalResponseCache."""
    seconds = seconds_of(step.value(0, "timeToLive") or "5m") or 300
    route.set(
        "cache",
        {"ttl": duration(seconds)},
        step.at,
        "by RFC 9111; callers share nothing (cache.by)",
    )
