"""Plugins that limit, split, copy and answer."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.parts import Route
from propylon.commands.imports.rates import rate
from propylon.commands.imports.tree import Item

__all__ = [
    "compress",
    "cors",
    "fault",
    "limit_conn",
    "limit_count",
    "limit_req",
    "max_body",
    "proxy_cache",
]

_WINDOWS = (1, 60, 3600, 86_400)
_KEYS = {"remote_addr": "ip", "consumer_name": "caller", "server_addr": "service", "uri": "route"}
_SHOWN = (
    "policy",
    "group",
    "rejected_msg",
    "rejected_code",
    "show_limit_quota_header",
    "allow_degradation",
)


def _key(route: Route, config: Item, default: str = "remote_addr") -> str:
    """Return by what is counted; empty, and the route closed, if there is no such key."""
    name = config.get("key").text(default)
    kind = config.get("key_type").text("var")
    if kind == "constant":
        return "route"
    if kind == "var" and name in _KEYS:
        return _KEYS[name]
    if kind == "var" and name.startswith("http_"):
        return f"header:{name.removeprefix('http_').replace('_', '-')}"
    route.close(config.get("key").at, f"a limit by {kind} {name}", "write rate_limit.key")
    return ""


def _add(route: Route, limit: dict[str, Any], config: Item, difference: str) -> None:
    limits = [*route.keys.get("rate_limit", []), limit]
    route.set("rate_limit", limits, config.at, difference, protects=True)


def limit_count(route: Route, config: Item) -> None:
    """Translate limit-count: so many in a fixed window."""
    count, window = config.get("count").number(), config.get("time_window").number()
    text, exact = rate(count, window)
    key = _key(route, config)
    if not text or config.get("rules"):
        route.close(config.at, "a limit that propylon cannot write", "write rate_limit")
        return
    limit: dict[str, Any] = {"name": "limit-count", "rate": text}
    limit |= {"window": "sliding"} if window in _WINDOWS else {"burst": int(count)}
    if config.get("policy").text("local") != "local":
        route.differs(config.get("policy").at, "machines share limits by the section redis")
    if key:
        _add(
            route,
            {**limit, "key": key},
            config,
            "the status is 429" + ("" if exact else "; the rate is rounded down"),
        )
    config.ignore(
        *_SHOWN, *(name for name, _ in config.items() if name.startswith(("redis", "sentinel")))
    )


def limit_req(route: Route, config: Item) -> None:
    """Translate limit-req: a leaky bucket."""
    text, exact = rate(config.get("rate").number(), 1)
    key = _key(route, config)
    if not text:
        route.close(config.at, "a limit that propylon cannot write", "write rate_limit")
        return
    limit = {
        "name": "limit-req",
        "rate": text,
        "burst": int(config.get("burst").number()) + 1,
        "key": key,
    }
    said = "the status is 429; requests within the burst are not delayed" + (
        "" if exact else "; the rate is rounded down"
    )
    if key:
        _add(route, limit, config, said)
    config.ignore(
        *_SHOWN, "nodelay", *(name for name, _ in config.items() if name.startswith("redis"))
    )


def limit_conn(route: Route, config: Item) -> None:
    """Translate limit-conn: so many at once."""
    most = int(config.get("conn").number()) + int(config.get("burst").number())
    if key := _key(route, config):
        limit = {"name": "limit-conn", "in_flight": most, "key": key}
        _add(route, limit, config, "counted in each worker; the status is 429; nothing is delayed")
    config.ignore(*_SHOWN, "default_conn_delay", "only_use_default_delay", "conn", "burst")


def cors(route: Route, config: Item) -> None:
    """Translate cors. What is lost of it lets fewer pages in."""
    keys: dict[str, Any] = {"origins": _listed(config.get("allow_origins").text("*"))}
    for theirs, ours in (
        ("allow_methods", "methods"),
        ("allow_headers", "headers"),
        ("expose_headers", "expose"),
    ):
        names = _listed(config.get(theirs).text())
        if names and names != ["*"]:
            keys[ours] = names
    keys["max_age"] = max(0, int(config.get("max_age").number(5)))
    if config.get("allow_credential").flag():
        keys["credentials"] = True
    if config.get("allow_origins_by_regex"):
        route.lost(
            config.get("allow_origins_by_regex").at,
            "origins by regular expressions",
            "write cors.origins",
        )
        keys["origins"] = [one for one in keys["origins"] if one != "*"]
    if keys["origins"]:
        route.set("cors", keys, config.at)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.replace("**", "*").split(",") if part.strip()]


def max_body(route: Route, config: Item) -> None:
    """Translate client-control."""
    if size := int(config.get("max_body_size").number()):
        route.set("max_body", size, config.at, protects=True)


def compress(route: Route, config: Item) -> None:
    """Translate gzip and brotli."""
    coding = "br" if "brotli" in config.at.what else "gzip"
    codings = [*route.keys.get("compress", {}).get("encodings", []), coding]
    keys: dict[str, Any] = {"encodings": codings}
    if config.get("types").texts() not in ([], ["*"]):
        keys["types"] = config.get("types").texts()
    if config.get("min_length").number():
        keys["min_size"] = int(config.get("min_length").number())
    route.set("compress", keys, config.at)
    config.ignore(*(key for key, _ in config.items()))


def proxy_cache(route: Route, config: Item) -> None:
    """Translate proxy-cache. Our cache is stricter: what the service forbids is never stored."""
    ttl = int(config.get("cache_ttl").number(300))
    route.set(
        "cache",
        {"ttl": f"{ttl}s"},
        config.at,
        "by RFC 9111: what the service says of storing decides first, and callers share nothing (cache.by)",
    )
    config.ignore(*(key for key, _ in config.items()))


def fault(route: Route, config: Item) -> None:
    """Translate fault-injection: an abort of all requests is a fixed answer."""
    abort = config.get("abort")
    if config.get("delay") or abort.get("vars") or abort.get("percentage").number(100) != 100:
        route.close(config.at, "faults for some requests only, or delays")
        return
    answer: dict[str, Any] = {"status": int(abort.get("http_status").number(200))}
    if body := abort.get("body").text():
        answer["body"] = body
    if headers := {name: value.text() for name, value in abort.get("headers").items()}:
        answer["headers"] = headers
    for gone in ("service", "split", "rewrite", "strip_prefix", "cache"):
        route.keys.pop(gone, None)
    route.set("respond", answer, config.at, protects=True)
