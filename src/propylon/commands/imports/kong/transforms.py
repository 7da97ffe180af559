"""The plugins request-transformer and response-transformer."""

from __future__ import annotations

import re

from propylon.commands.imports.known import has_key
from propylon.commands.imports.kong.names import text_of
from propylon.commands.imports.kong.routes import Written
from propylon.commands.imports.parts import Route
from propylon.commands.imports.tree import Item

__all__ = ["request", "response"]

_TEMPLATE = re.compile(r"\$\((?P<inside>[^()]*)\)")
_KINDS = {"headers": "header", "query_params": "query", "uri_captures": "path"}
_DEEPER = re.compile(r"(?P<kind>\w+)(?:\.(?P<name>[\w-]+)|\[[\"'](?P<quoted>[\w-]+)[\"']\])")

# Kong's verbs, our keys, and what is not the same.
_VERBS = (
    ("add", "set", "Kong adds it only where there is none; propylon's value always stands"),
    ("replace", "set", "Kong replaces only what is there; propylon sets it in any case"),
    ("append", "add", ""),
)


class _Untranslatable(Exception):
    """A template says what ours cannot."""


def request(written: Written, plugin: Item) -> None:
    """Translate request-transformer."""
    config, route = plugin.get("config"), written.route
    _headers(route, config, "request")
    _query(route, config)
    _bodies(route, config)
    if config.get("rename").get("headers"):
        route.close(
            config.get("rename").get("headers").at,
            "a header gets another name",
            "a policy in Python can do it",
        )
    if config.get("http_method"):
        route.lost(config.get("http_method").at, "propylon never changes the method")
    if config.get("replace").get("uri"):
        _uri(written, config.get("replace").get("uri"))
    config.ignore("dots_in_keys", "allow")
    route.close_untaken(config)


def response(written: Written, plugin: Item) -> None:
    """Translate response-transformer."""
    config, route = plugin.get("config"), written.route
    _headers(route, config, "response")
    _bodies(route, config)
    if config.get("rename").get("headers"):
        route.lost(
            config.get("rename").get("headers").at,
            "a header of answers gets another name",
            "a policy in Python can do it",
        )
    for verb in ("add", "replace", "append", "remove", "allow"):
        config.get(verb).ignore("json", "json_types", "if_status")
        for key in ("json", "json_types", "if_status"):
            if config.get(verb).get(key):
                route.close(
                    config.get(verb).get(key).at,
                    "bodies, or conditions on the status",
                    "a policy in Python can do it",
                )
    route.close_untaken(config)


def _headers(route: Route, config: Item, side: str) -> None:
    if names := config.get("remove").get("headers").texts():
        plain = [name.partition(":")[0] for name in names]
        route.set(
            f"headers.{side}.remove",
            plain,
            config.get("remove").get("headers").at,
            protects=side == "request",
        )
    _values(route, config, "headers", f"headers.{side}")


def _query(route: Route, config: Item) -> None:
    if names := config.get("remove").get("querystring").texts():
        route.set("query.remove", names, config.get("remove").get("querystring").at, protects=True)
    _values(route, config, "querystring", "query")
    if config.get("rename").get("querystring"):
        route.close(
            config.get("rename").get("querystring").at,
            "a parameter gets another name",
            "a policy in Python can do it",
        )


def _values(route: Route, config: Item, part: str, into: str) -> None:
    """Set what Kong adds, replaces and appends; `part` is Kong's word for what is changed, `into` is ours."""
    for verb, key, difference in _VERBS:
        for pair in config.get(verb).get(part).each():
            name, value = _pair(pair)
            try:
                ours = _template(value)
            except _Untranslatable as error:
                route.close(pair.at, str(error), "a policy in Python can do it")
                continue
            route.set(f"{into}.{key}", {name: ours}, pair.at, difference, protects=True)


def _bodies(route: Route, config: Item) -> None:
    for verb in ("add", "replace", "append", "remove", "rename", "allow"):
        if config.get(verb).get("body"):
            route.close(
                config.get(verb).get("body").at,
                "propylon changes no bodies",
                "a policy in Python can do it",
            )


def _pair(item: Item) -> tuple[str, str]:
    name, _, value = text_of(item).partition(":")
    return name.strip(), value.strip()


def _template(value: str) -> str:
    """Return our template for one of Kong's. Raises _Untranslatable."""
    bare = _TEMPLATE.sub("", value)
    if "$(" in bare:
        msg = "a template of Lua"
        raise _Untranslatable(msg)
    if not has_key("route", "query"):  # templates came with it
        if bare != value:
            msg = "this version of propylon has no templates in values"
            raise _Untranslatable(msg)
        return value
    pieces, end = [], 0
    for match in _TEMPLATE.finditer(value):
        pieces.append(_literal(value[end : match.start()]) + _reference(match["inside"]))
        end = match.end()
    return "".join([*pieces, _literal(value[end:])])


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _reference(inside: str) -> str:
    match = _DEEPER.fullmatch(inside.strip())
    if match is None or match["kind"] not in _KINDS:
        msg = f"the template $({inside}) is Lua"
        raise _Untranslatable(msg)
    return f"{{{_KINDS[match['kind']]}.{match['name'] or match['quoted']}}}"


def _uri(written: Written, uri: Item) -> None:
    """Translate replace.uri: the whole path for the service."""
    route, text = written.route, text_of(uri)
    path = _TEMPLATE.sub(lambda match: f"{{{match['inside'].rpartition('.')[2]}}}", text)
    if "$(" in path or written.base:
        route.close(
            uri.at,
            (
                "a template of Lua"
                if "$(" in path
                else f"the path replaces {written.base} of the service, too"
            ),
            "write rewrite, and take the path off the service's url",
        )
        return
    route.keys.pop("strip_prefix", None)
    exact = route.keys.get("exact")
    difference = "" if exact else "what is below the route's path goes behind it"
    if not route.set("rewrite", path, uri.at, difference):
        route.close(uri.at, f"a path {text} for the service", "write it as rewrite")
