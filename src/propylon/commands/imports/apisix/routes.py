"""Routes: which requests they take."""

from __future__ import annotations

from propylon.commands.imports.apisix.upstreams import IGNORED
from propylon.commands.imports.apisix.vars_ import conditions
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Route
from propylon.commands.imports.tree import Item

__all__ = ["write_routes"]


def write_routes(item: Item, service: Item | None, draft: Draft) -> list[Route]:
    """Write a route of ours for each uri of one of APISIX'."""
    uris = item.get("uris").each() or [item.get("uri")]
    name = item.get("name").text() or item.get("id").text()
    routes = []
    for number, uri in enumerate(uris):
        own = name if number == 0 or not name else f"{name}-{number + 1}"
        route = _placed(uri, own, item, draft)
        _conditions(item, service, route)
        routes.append(route)
    return routes


def _placed(uri: Item, name: str, item: Item, draft: Draft) -> Route:
    text = uri.text("/*")
    path, exact = text, True
    if text.endswith("*"):
        path, exact = text[:-1], False
    segments = [
        f"{{{part[1:]}}}" if part[:1] == ":" and len(part) > 1 else part for part in path.split("/")
    ]
    named = "/".join(segments)
    route = draft.route(named.rstrip("/") or "/", item.at, name)
    if "*" in path:
        route.close(uri.at, "a * that is not at the end", "write {name} for a segment")
    if exact and named != "/":
        route.put("exact", value=True)
        route.same(uri.at, f"routes: path: {named}, exact")
    elif exact:
        route.put("exact", value=True)
        route.same(uri.at, "routes: path: /, exact")
    elif named == "/":
        route.same(uri.at, "routes: path: /")
    elif named.endswith("/"):
        route.differs(uri.at, f"{named.rstrip('/')} itself is taken, too")
    else:
        route.glued = True
        route.differs(uri.at, f"whole segments: {named}/x is taken as in APISIX, {named}x is not")
    return route


def _conditions(item: Item, service: Item | None, route: Route) -> None:
    if item.get("methods"):
        route.methods(
            item.get("methods").texts(),
            item.get("methods").at,
            websockets=item.get("enable_websocket").flag(),
        )
    hosts = (
        item.get("hosts")
        or item.get("host")
        or (service.get("hosts") if service else item.get("hosts"))
    )
    if hosts:
        route.set("hosts", hosts.texts(), hosts.at, protects=True)
    addresses = item.get("remote_addrs") or item.get("remote_addr")
    if addresses:
        route.set(
            "clients",
            {"allow": addresses.texts()},
            addresses.at,
            "other clients get 403, and no other route is tried for them",
            protects=True,
        )
    conditions(route, item.get("vars"))
    if item.get("priority").number():
        route.set("priority", int(item.get("priority").number()), item.get("priority").at)
    for key in ("filter_func", "script", "script_id", "service_protocol"):
        if item.get(key):
            route.close(
                item.get(key).at,
                f"{key}: code, or another protocol",
                "a policy in Python can do it",
            )
    if item.get("enable_websocket").value is not None:
        route.same(item.get("enable_websocket").at, "WebSockets pass like other requests")
    item.ignore(
        *IGNORED,
        "uri",
        "uris",
        "host",
        "hosts",
        "status",
        "plugins",
        "plugin_config_id",
        "service_id",
    )
    item.ignore("upstream_id", "upstream", "timeout", "remote_addr", "remote_addrs")
