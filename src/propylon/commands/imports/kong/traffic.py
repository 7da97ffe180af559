"""Plugins that limit and answer: rates, addresses, sizes, CORS, caches, fixed answers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from propylon.commands.imports.kong.names import text_of
from propylon.commands.imports.kong.routes import Written
from propylon.commands.imports.tree import Item

__all__ = [
    "cors",
    "ip_restriction",
    "proxy_cache",
    "rate_limiting",
    "redirect",
    "request_size",
    "termination",
]

_PERIODS = {"second": "s", "minute": "m", "hour": "h", "day": "d"}
_LONG = ("month", "year")
_SIZES = {"megabytes": "MiB", "kilobytes": "KiB", "bytes": ""}
_FIRST_ERROR = 200  # the lowest status that a fixed answer may have


def rate_limiting(written: Written, plugin: Item) -> None:
    """Translate rate-limiting; Kong counts in fixed windows."""
    route, config = written.route, plugin.get("config")
    key = _counted_by(written, config)
    limits: list[dict[str, Any]] = []
    for period, unit in _PERIODS.items():
        if (number := config.get(period)).number():
            limit: dict[str, Any] = {
                "name": f"per-{period}",
                "rate": f"{int(number.number())}/{unit}",
            }
            limit |= {"window": "sliding", "key": key}
            if not config.get("fault_tolerant").flag(default=True):
                limit["on_store_failure"] = "closed"
            limits.append(limit)
    for period in _LONG:
        if config.get(period).number():
            route.close(
                config.get(period).at, f"a limit by the {period}: the longest unit is a day"
            )
    if not limits:
        route.close(plugin.at, "it says no number of requests", "write rate_limit")
    elif key:
        route.set(
            "rate_limit",
            limits,
            plugin.at,
            "in sliding windows, so a burst at the edge of two windows is refused; machines share limits by the section redis",
            protects=True,
        )
    config.ignore(
        "policy", "redis", "hide_client_headers", "sync_rate", "error_code", "error_message", "path"
    )
    written.route.close_untaken(config)


def _counted_by(written: Written, config: Item) -> str:
    by = config.get("limit_by")
    name = by.text("consumer")
    known = {"consumer": "caller", "credential": "caller", "ip": "ip", "service": "service"}
    if name == "header":
        return f"header:{config.get('header_name').text()}"
    if name not in known:
        written.route.close(by.at, f"a limit by {name}")
    return known.get(name, "")


def cors(written: Written, plugin: Item) -> None:
    """Translate cors. What is lost of it lets fewer pages in."""
    route, config = written.route, plugin.get("config")
    origins = config.get("origins").texts() or ["*"]
    keys: dict[str, Any] = {"origins": origins}
    for theirs, ours in (
        ("methods", "methods"),
        ("headers", "headers"),
        ("exposed_headers", "expose"),
    ):
        if config.get(theirs):
            keys[ours] = config.get(theirs).texts()
    if config.get("max_age").value is not None:
        keys["max_age"] = int(config.get("max_age").number())
    for name in ("credentials", "private_network"):
        if config.get(name).flag():
            keys[name] = True
    if config.get("preflight_continue").flag():
        route.set(
            "preflight", "pass", plugin.at, "the service answers preflights, and all other CORS"
        )
    else:
        route.set("cors", keys, plugin.at)
    config.ignore("allow_origin_absent", "skip_cors_when_origin_is_empty")
    written.route.close_untaken(config)


def ip_restriction(written: Written, plugin: Item) -> None:
    """Translate ip-restriction."""
    config = plugin.get("config")
    keys = {
        ours: [address for theirs in names for address in config.get(theirs).texts()]
        for ours, names in (("allow", ("allow", "whitelist")), ("deny", ("deny", "blacklist")))
    }
    if not any(keys.values()):
        written.route.close(plugin.at, "it names no addresses", "write clients")
        return
    difference = "the status is 403" if config.get("status").number(403) != 403 else ""
    written.route.set(
        "clients",
        {key: value for key, value in keys.items() if value},
        plugin.at,
        difference,
        protects=True,
    )
    config.ignore("message")
    written.route.close_untaken(config)


def request_size(written: Written, plugin: Item) -> None:
    """Translate request-size-limiting; Kong's megabytes are 2^20 bytes."""
    config = plugin.get("config")
    unit = _SIZES.get(config.get("size_unit").text("megabytes"), "MiB")
    size = int(config.get("allowed_payload_size").number(128))
    difference = ""
    if config.get("require_content_length").flag():
        difference = (
            "bodies without a Content-Length are counted as they come, not refused with 411"
        )
    written.route.set(
        "max_body", f"{size}{unit}" if unit else size, plugin.at, difference, protects=True
    )
    written.route.close_untaken(config)


def termination(written: Written, plugin: Item) -> None:
    """Translate request-termination: a fixed answer."""
    route, config = written.route, plugin.get("config")
    status = int(config.get("status_code").number(503))
    if config.get("trigger") or status < _FIRST_ERROR:
        route.close(plugin.at, "an answer on a trigger, or with a status below 200")
        return
    answer: dict[str, Any] = {"status": status}
    if message := config.get("message").text("" if config.get("body") else "Service unavailable"):
        answer["headers"] = {"Content-Type": "application/json; charset=utf-8"}
        answer["body"] = json.dumps({"message": message})
    if body := text_of(config.get("body")):
        kind = config.get("content_type").text("application/json; charset=utf-8")
        answer |= {"headers": {"Content-Type": kind}, "body": body}
    _in_place_of_service(written, "respond", answer, plugin)
    config.ignore("echo")
    written.route.close_untaken(config)


def redirect(written: Written, plugin: Item) -> None:
    """Translate redirect, which sends the client elsewhere."""
    config = plugin.get("config")
    location = text_of(config.get("location"))
    status = int(config.get("status_code").number(301))
    if config.get("keep_incoming_path").flag():
        place = urlsplit(location)
        path = str(written.route.keys["path"]).rstrip("/")
        location = f"{place.scheme}://{place.netloc}{path}/{{rest}}{{query}}"
    _in_place_of_service(written, "redirect", {"to": location, "status": status}, plugin)
    written.route.close_untaken(config)


def _in_place_of_service(written: Written, key: str, value: dict[str, Any], plugin: Item) -> None:
    route = written.route
    kept = dict(route.keys)
    for gone in ("service", "strip_prefix", "rewrite", "cache", "preflight"):
        route.keys.pop(gone, None)
    if not route.set(key, value, plugin.at, protects=True):
        route.keys = kept


def proxy_cache(written: Written, plugin: Item) -> None:
    """Translate proxy-cache. Our cache is stricter: what the service forbids is never stored."""
    config = plugin.get("config")
    keys: dict[str, Any] = {"ttl": f"{config.get('cache_ttl').number(300):g}s"}
    if config.get("vary_headers"):
        keys["vary"] = config.get("vary_headers").texts()
    written.route.set(
        "cache",
        keys,
        plugin.at,
        "by RFC 9111: what the service says of storing decides first, and callers share nothing (cache.by)",
    )
    config.ignore(*(key for key, _ in config.items()))
