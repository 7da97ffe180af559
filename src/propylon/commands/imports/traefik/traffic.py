"""Middlewares that limit, retry, compress and redirect."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.known import refusal
from propylon.commands.imports.parts import Route
from propylon.commands.imports.patterns import from_regex
from propylon.commands.imports.rates import duration, rate, seconds_of
from propylon.commands.imports.tree import Item, named

__all__ = [
    "buffering",
    "compress",
    "in_flight",
    "rate_limit",
    "redirect_regex",
    "redirect_scheme",
    "retry",
]

_ENCODINGS = ["gzip", "br", "zstd"]
_TODO = "write server.listen with one listener `tls: true` and one `redirect: https`"


def _key(route: Route, config: Item, default: str) -> str:
    """Return by what is counted; empty, and the route closed, if there is no such key."""
    criterion = named(config, "sourceCriterion")
    strategy = named(criterion, "ipStrategy")
    if header := named(criterion, "requestHeaderName").text():
        return f"header:{header}"
    if named(criterion, "requestHost").flag():
        return "route"
    if strategy:
        route.differs(
            strategy.at, "the address is the client's behind server.trusted_proxies; set them"
        )
        strategy.ignore(*strategy.names())
        return "ip"
    return default


def _add(route: Route, limit: dict[str, Any], config: Item, difference: str) -> None:
    limits = [*route.keys.get("rate_limit", []), limit]
    route.set("rate_limit", limits, config.at, difference, protects=True)


def rate_limit(route: Route, config: Item) -> None:
    """Translate rateLimit: a token bucket, which holds one request if nothing else is said."""
    average = named(config, "average").number()
    if not average:
        route.same(config.at, "no limit: its average is 0")
        return
    text, exact = rate(average, seconds_of(named(config, "period").text("1s")) or 1)
    burst = max(1, int(named(config, "burst").number(1)))
    key = _key(route, config, "ip")
    said = [] if exact else ["the rate is rounded down"]
    if named(config, "redis"):
        said.append("machines share limits by the section redis")
        named(config, "redis").ignore(*named(config, "redis").names())
    if not text:
        route.close(config.at, "a limit that propylon cannot write", "write rate_limit")
        return
    _add(
        route,
        {"name": config.path[-2], "rate": text, "burst": burst, "key": key},
        config,
        "; ".join(said),
    )


def in_flight(route: Route, config: Item) -> None:
    """Translate inFlightReq, which counts by host if nothing else is said."""
    key = _key(route, config, "route")
    limit = {
        "name": config.path[-2],
        "in_flight": int(named(config, "amount").number(1)),
        "key": key,
    }
    _add(
        route,
        limit,
        config,
        "counted in each worker"
        + (", for the route and not for the host" if key == "route" else ""),
    )


def buffering(route: Route, config: Item) -> None:
    """Translate buffering: the bound of the request's body."""
    most = named(config, "maxRequestBodyBytes")
    if most.number() > 0:
        route.set(
            "max_body",
            int(most.number()),
            most.at,
            "bodies are not buffered, but counted as they come",
            protects=True,
        )
    else:
        route.report_only(config.at, "propylon streams bodies in both directions")
    if named(config, "maxResponseBodyBytes").number() > 0:
        route.lost(named(config, "maxResponseBodyBytes").at, "a bound of the answer's body")
    config.ignore("memRequestBodyBytes", "memResponseBodyBytes", "retryExpression")


def compress(route: Route, config: Item) -> None:
    """Translate compress, with the codings that are installed here."""
    wanted = named(config, "encodings").texts() or _ENCODINGS
    codings = [
        one for one in wanted if not refusal("route", "compress", {"encodings": [one]})
    ] or wanted
    keys: dict[str, Any] = {"encodings": codings}
    if types := named(config, "includedContentTypes").texts():
        keys["types"] = types
    keys["min_size"] = int(named(config, "minResponseBodyBytes").number(1024))
    said = ["its own list of types"] if named(config, "excludedContentTypes") else []
    if codings != wanted:
        said.append(
            "codings whose package is not installed are left out; propylon[compression] has them"
        )
    route.set("compress", keys, config.at, "; ".join(said))
    config.ignore("defaultEncoding")


def retry(draft: Draft, route: Route, config: Item) -> None:
    """Translate retry into the service's; all routes of the service share it."""
    service = draft.services.get(str(route.keys.get("service", "")))
    if service is None:
        route.lost(config.at, "retries of a service that is made of others")
        return
    keys: dict[str, Any] = {
        "attempts": max(1, int(named(config, "attempts").number(1))),
        "on": ["connect-failure", "reset"],
    }
    if seconds := seconds_of(named(config, "initialInterval").text()):
        keys["backoff"] = duration(seconds)
    if named(config, "status"):
        keys["on"] += [502, 503, 504]
    service.set(
        "retry",
        keys,
        config.at,
        "on all routes of the service, for idempotent methods, within retry.budget",
    )
    config.ignore(
        "timeout", "maxRequestBodyBytes", "disableRetryOnNetworkError", "retryNonIdempotentMethod"
    )


def redirect_scheme(route: Route, config: Item) -> None:
    """Translate redirectScheme: a listener does that here."""
    if named(config, "scheme").text() == "https":
        route.lost(
            config.at,
            "listeners are not part of this file, so nothing here sends clients to HTTPS",
            _TODO,
        )
    else:
        route.close(config.at, "a redirect to another scheme", "write redirect")
    config.ignore("permanent", "port", "forcePermanentRedirect")


def redirect_regex(route: Route, config: Item) -> None:
    """Translate redirectRegex, if it takes all requests of the route."""
    pattern, to = named(config, "regex").text(), named(config, "replacement").text()
    status = 308 if named(config, "permanent").flag() else 307
    scheme, mark, rest = pattern.removeprefix("^").replace("\\/", "/").partition("://")
    host, slash, path = rest.partition("/")
    found = from_regex(f"/{path}") if mark and slash else None
    hosts = route.keys.get("hosts", [])
    ours = [host.replace("\\.", ".").lower()]
    fits = (
        found is not None
        and scheme in ("http", "https", "https?", "http(s)?")
        and hosts in (ours, [])
    )
    place = urlsplit(to)
    if (
        not fits
        or found is None
        or found.path != route.keys["path"]
        or found.groups
        or not place.netloc
    ):
        route.close(
            config.at,
            "a redirect by a regular expression that propylon cannot write",
            "write redirect",
        )
        return
    if found.rest:
        for form in (f"${found.rest}", f"${{{found.rest}}}"):
            to = to.replace(form, "{rest}{query}") if to.endswith(form) else to
    if "$" in to:
        route.close(
            config.at,
            "a redirect by a regular expression that propylon cannot write",
            "write redirect",
        )
        return
    for gone in ("service", "split", "rewrite", "strip_prefix", "mirror", "fallback", "sticky"):
        route.keys.pop(gone, None)
    route.set("redirect", {"to": to, "status": status}, config.at, protects=True)
