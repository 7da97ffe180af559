"""Routes: which requests they take, and in which order Kong tries them."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.kong.names import IGNORED, text_of
from propylon.commands.imports.parts import Route
from propylon.commands.imports.patterns import Found, from_regex, literal_prefix
from propylon.commands.imports.tree import Item

__all__ = ["Written", "order", "write_routes"]

_CONSTRAINTS = ("snis", "sources", "destinations", "expression")
_HTTP = {"http", "https"}


class Written:
    """A route of ours with the one of Kong that it comes from, and what its pattern captured."""

    def __init__(self, route: Route, item: Item, found: Found | None) -> None:
        """Keep the three."""
        self.route, self.item, self.found = route, item, found
        self.base = ""  # the path of its service's URL


def write_routes(item: Item, draft: Draft) -> list[Written]:
    """Write a route of ours for each path of one of Kong's."""
    paths = item.get("paths").each()
    name = item.get("name").text()
    at_path = [(path, text_of(path)) for path in paths] or [(item, "/")]
    written = []
    for number, (path, text) in enumerate(at_path):
        own = name if number == 0 or not name else f"{name}-{number + 1}"
        written.append(_one(item, path, text, own, draft))
    if not paths:
        draft.same(item.at, "routes: path: /, because it has no paths")
    return written


def _one(item: Item, path: Item, text: str, name: str, draft: Draft) -> Written:
    found: Found | None = None
    if text.startswith("~"):
        found = from_regex(text[1:])
        route = draft.route(found.path if found else literal_prefix(text[1:]), item.at, name)
        _regex(route, path, found)
    else:
        route = draft.route(text.rstrip("/") or "/", item.at, name)
        _plain(route, path, text)
    _conditions(item, route)
    _protocols(item, route)
    _remaining(item, route)
    return Written(route, item, found)


def _plain(route: Route, path: Item, text: str) -> None:
    if text == "/":
        route.same(path.at, "routes: path")
    elif text.endswith("/"):
        route.differs(path.at, f"{text.rstrip('/')} itself is taken, too")
    else:
        route.glued = True
        route.differs(path.at, f"whole segments: {text}/x is taken as in Kong, {text}x is not")


def _regex(route: Route, path: Item, found: Found | None) -> None:
    if found is None:
        route.close(
            path.at,
            "propylon has no regular expressions in paths, and no path says this one",
            "write the paths that it means, with {name} for a segment",
        )
        return
    if found.exact:
        route.put("exact", value=True)
    route.wide, route.glued = found.wide, found.glued
    said = [found.wide] if found.wide else []
    if found.glued:
        said.append("whole segments: what goes on within the last one is not taken")
    if said:
        route.differs(path.at, "; ".join(said))
    else:
        route.same(path.at, f"routes: path: {found.path}")


def _conditions(item: Item, route: Route) -> None:
    if item.get("methods"):
        route.methods(item.get("methods").texts(), item.get("methods").at)
    if item.get("hosts"):
        _hosts(item.get("hosts"), route)
    for name, values in item.get("headers").items():
        texts = values.texts()
        if any(text.startswith("~*") for text in texts):
            route.close(
                values.at, "propylon has no regular expressions for headers", "list the values"
            )
        else:
            route.set(
                f"match.headers.{name}" if "." not in name else name,
                texts,
                values.at,
                protects=True,
            )
    for key in _CONSTRAINTS:
        if item.get(key):
            route.close(item.get(key).at, f"propylon cannot choose a route by {key}")


def _hosts(hosts: Item, route: Route) -> None:
    names = []
    for text in hosts.texts():
        host, colon, port = text.rpartition(":")
        names.append(host if colon and port.isdigit() else text)
    ported = names != hosts.texts()
    difference = "the port of a Host does not count" if ported else ""
    route.set("hosts", names, hosts.at, difference, protects=True)


def _protocols(item: Item, route: Route) -> None:
    wanted = set(item.get("protocols").texts())
    if wanted - _HTTP:
        route.close(
            item.get("protocols").at,
            f"propylon serves HTTP and WebSockets, not {', '.join(sorted(wanted - _HTTP))}",
        )
    elif wanted == {"https"}:
        route.lost(
            item.get("protocols").at,
            "nothing here refuses plain HTTP: listeners are not part of this file",
            "write server.listen with one listener `tls: true` and one `redirect: https`",
        )
    elif wanted:
        route.same(item.get("protocols").at, "what the listeners speak, server.listen")
    item.get("https_redirect_status_code")


def _remaining(item: Item, route: Route) -> None:
    if item.get("path_handling").text("v0") != "v0":
        route.differs(item.get("path_handling").at, "paths are put together as by v0")
    for key in ("request_buffering", "response_buffering"):
        if item.get(key).value is not None:
            route.differs(item.get(key).at, "propylon streams bodies in both directions")
    item.get("regex_priority")
    item.ignore(*IGNORED, "name", "plugins", "service", "strip_path", "preserve_host", "paths")


def order(item: Item, route: Route) -> tuple[Any, ...]:
    """Return the sort key by which Kong's traditional router tries routes."""
    points = sum(bool(item.get(key)) for key in ("methods", "hosts", "headers", "snis", "paths"))
    wild = any("*" in host for host in item.get("hosts").texts())
    regex = any(text.startswith("~") for text in item.get("paths").texts())
    return (
        -points,
        wild,
        -len(list(item.get("headers").items())),
        not regex,
        -item.get("regex_priority").number() if regex else 0,
        -len(str(route.keys["path"])),
    )
