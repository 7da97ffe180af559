"""Plugins that change paths, headers and answers, and those that send requests elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from propylon.commands.imports.apisix.upstreams import Upstreams
from propylon.commands.imports.draft import Draft
from propylon.commands.imports.known import has_key
from propylon.commands.imports.parts import Route
from propylon.commands.imports.patterns import from_regex, replaced
from propylon.commands.imports.tree import Item

__all__ = ["Rewriting", "braces"]

_VARIABLE = re.compile(r"(?<!\\)\$\{?(?P<name>[a-z_]\w*)\}?")
_KNOWN = {
    "remote_addr": "{client_ip}",
    "host": "{host}",
    "scheme": "{scheme}",
    "request_method": "{method}",
}
_KNOWN |= {"request_id": "{request_id}", "consumer_name": "{user}"}
_PREFIXES = {"http_": "header", "arg_": "query"}
_REDIRECTS = (301, 302, 303, 307, 308)


class Rewriting:
    """The plugins that need to know of the route's upstream."""

    def __init__(self, draft: Draft, upstreams: Upstreams) -> None:
        """Keep the upstreams of the file."""
        self._draft, self._upstreams = draft, upstreams

    def proxy_rewrite(self, route: Route, config: Item) -> None:
        """Translate proxy-rewrite."""
        if config.get("uri"):
            _fixed(route, config.get("uri"))
            config.get("regex_uri")
        elif config.get("regex_uri"):
            _regex(route, config.get("regex_uri"))
        _headers(route, config.get("headers"), "request")
        if config.get("host"):
            _set(route, "request", "set", {"Host": config.get("host").text()}, config.get("host"))
        for key in ("method", "scheme"):
            if config.get(key):
                route.close(config.get(key).at, f"another {key} for the service: propylon keeps it")
        config.ignore("use_real_request_uri_unsafe")

    def response_rewrite(self, route: Route, config: Item) -> None:
        """Translate response-rewrite: headers only."""
        _headers(route, config.get("headers"), "response")
        for key in ("status_code", "body", "body_base64", "vars", "filters"):
            if config.get(key):
                route.close(
                    config.get(key).at,
                    f"{key}: propylon changes no answers of services",
                    "a policy in Python can do it",
                )

    def redirect(self, route: Route, config: Item) -> None:
        """Translate redirect."""
        if config.get("http_to_https").flag():
            route.lost(
                config.get("http_to_https").at,
                "listeners are not part of this file, so nothing here sends clients to HTTPS",
                "write server.listen with one listener `tls: true` and one `redirect: https`",
            )
            config.get("ret_code")
            return
        to = _VARIABLE.sub(
            lambda match: "/{rest}" if match["name"] in ("uri", "request_uri") else match[0],
            config.get("uri").text(),
        )
        path = str(route.keys["path"]).rstrip("/")
        to = to.replace("/{rest}", f"{path}/{{rest}}")
        status = int(config.get("ret_code").number(302))
        if config.get("append_query_string").flag() or "$request_uri" in config.get("uri").text():
            to += "{query}"
        if status not in _REDIRECTS or "$" in to or config.get("regex_uri"):
            route.close(config.at, "a redirect that propylon cannot write", "write redirect")
            config.ignore("regex_uri", "encode_uri")
            return
        for gone in ("service", "split", "rewrite", "strip_prefix"):
            route.keys.pop(gone, None)
        route.set("redirect", {"to": to, "status": status}, config.at, protects=True)
        config.ignore("encode_uri")

    def split(self, route: Route, config: Item) -> None:
        """Translate traffic-split: shares of the requests go to other upstreams."""
        rules = config.get("rules").each()
        if len(rules) != 1 or rules[0].get("match"):
            route.close(
                config.at, "a split by conditions, or several of them", "write routes with match"
            )
            return
        shares = []
        for one in rules[0].get("weighted_upstreams").each():
            weight = int(one.get("weight").number(1))
            name = self._target(one, route)
            if not name:
                route.close(one.at, "an upstream that is not in the file")
                return
            if weight:
                shares.append({"service": name, "weight": weight})
        before = route.keys.pop("service", None)
        if not route.set("split", shares, config.at):
            route.put("service", before)
            route.close(config.at, "a share of the requests is for another service", "write split")

    def _target(self, one: Item, route: Route) -> str:
        if one.get("upstream"):
            return self._upstreams.service(one.get("upstream"), f"{route.name}-split").name
        if one.get("upstream_id"):
            upstream = self._upstreams.named(one.get("upstream_id").text())
            return self._upstreams.service(upstream, "split").name if upstream else ""
        return str(route.keys.get("service", ""))

    def mirror(self, route: Route, config: Item) -> None:
        """Translate proxy-mirror: copies go to another service."""
        part = self._draft.service(f"{route.name}-mirror".strip("/"), config.at)
        part.set("url", config.get("host").text().rstrip("/"), config.get("host").at)
        share = f"{config.get('sample_ratio').number(1) * 100:g}%"
        route.set("mirror", {"service": part.name, "share": share}, config.at)
        for key in ("path", "path_concat_mode"):
            if config.get(key):
                route.lost(config.get(key).at, "the copy has the path of the request")


def braces(text: str) -> str | None:
    """Return our template for a text with nginx' variables; None if one of them is not known."""
    found = list(_VARIABLE.finditer(text))
    if not has_key("route", "query"):  # templates came with it
        return None if found else text
    pieces, end = [], 0
    for match in found:
        name = _template(match["name"])
        if not name:
            return None
        pieces += [_literal(text[end : match.start()]), name]
        end = match.end()
    return "".join([*pieces, _literal(text[end:])])


def _template(name: str) -> str:
    for prefix, kind in _PREFIXES.items():
        if name.startswith(prefix):
            plain = name.removeprefix(prefix)
            return f"{{{kind}.{plain.replace('_', '-') if kind == 'header' else plain}}}"
    return _KNOWN.get(name, "")


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _headers(route: Route, headers: Item, side: str) -> None:
    """Translate headers: set, add and remove, or pairs that are set."""
    verbs: Mapping[str, Item] = {
        key: headers.get(key)
        for key in ("set", "add")
        if isinstance(headers.get(key).value, dict | list)
    }
    if verbs or isinstance(headers.get("remove").value, list):
        for verb, item in verbs.items():
            _set(route, side, verb, _pairs(item), item)
        if names := headers.get("remove").texts():
            route.set(
                f"headers.{side}.remove",
                names,
                headers.get("remove").at,
                protects=side == "request",
            )
        return
    if pairs := _pairs(headers):
        _set(route, side, "set", pairs, headers)


def _pairs(item: Item) -> dict[str, str]:
    if isinstance(item.value, list):
        split = (text.partition(":") for text in item.texts())
        return {name.strip(): value.strip() for name, _, value in split}
    return {name: value.text() for name, value in item.items()}


def _set(route: Route, side: str, verb: str, pairs: dict[str, str], item: Item) -> None:
    made: dict[str, str] = {}
    for name, value in pairs.items():
        ours = braces(value)
        if ours is None:
            route.close(
                item.at,
                f"the value of {name} has a variable that propylon has not",
                "write a template",
            )
        else:
            made[name] = ours
    inside: dict[str, Any] = dict(route.keys.get("headers", {}).get(side, {}).get(verb, {}))
    if made:
        route.set(f"headers.{side}.{verb}", {**inside, **made}, item.at, protects=side == "request")


def _fixed(route: Route, uri: Item) -> None:
    if "$" in uri.text() or "?" in uri.text():
        route.close(uri.at, "a path with variables or a query", "write rewrite")
    elif route.keys.get("exact"):
        route.set("rewrite", uri.text(), uri.at, protects=True)
    else:
        route.close(uri.at, "every path below becomes this one", "write exact, or a rewrite")


def _regex(route: Route, pair: Item) -> None:
    """Translate a pair of a regular expression and its replacement."""
    texts = pair.texts()
    path = str(route.keys["path"])
    found = from_regex(texts[0]) if len(texts) == 2 else None
    rewrite = replaced(found, texts[1]) if found else None
    if found is None or rewrite is None:
        route.close(pair.at, "a rewrite by a regular expression that no path says", "write rewrite")
        return
    within = path == found.path or path.startswith(found.path.rstrip("/") + "/")
    if (
        found.exact != bool(route.keys.get("exact"))
        or not within
        or (found.groups and path != found.path)
    ):
        route.close(pair.at, "the expression takes other paths than the route", "write rewrite")
        return
    below = path.removeprefix(found.path.rstrip("/"))
    whole = (rewrite.rstrip("/") + below) or "/"
    if whole == path:
        route.same(pair.at, "the path stays as it is")
    elif whole == "/" and path != "/" and not route.keys.get("exact"):
        route.set("strip_prefix", True, pair.at, protects=True)
    else:
        route.set("rewrite", whole, pair.at, protects=True)
