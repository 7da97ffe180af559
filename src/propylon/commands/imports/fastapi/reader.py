"""Write a route for each one that the source has; what is not understood is listed, and closed."""

from __future__ import annotations

import ast
import re

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.fastapi.source import Endpoint, Module, read_module
from propylon.commands.imports.overlap import first_wins
from propylon.commands.imports.parts import Part, Route, Variable
from propylon.commands.imports.source import Source

__all__ = ["read"]

_REST = re.compile(r"\{(?P<name>\w+):path\}")
_TYPED = re.compile(r"\{(?P<name>\w+):\w+\}")
_NAMED = re.compile(r"\{(?P<name>\w+)\}")
_URL = re.compile(r"(?P<origin>https?://[^/{}\s]+)(?P<path>/.*)?")
_RULES = "look at the function: its checks, its headers and its errors are not read"


def read(sources: list[Source], draft: Draft) -> None:
    """Read the files of a gateway."""
    modules = [read_module(source) for source in sources]
    texts = {name: text for module in modules for name, text in module.texts.items()}
    tables = {name: table for module in modules for name, table in module.tables.items()}
    if not any(module.endpoints for module in modules):
        raise sources[0].refuse(1, "no route of FastAPI: no function with @app.get or the like")
    shared = [one for module in modules for one in module.shared]
    for module in modules:
        module.texts, module.tables, module.shared = texts, tables, shared
        for endpoint in module.endpoints:
            _Writer(draft, module, endpoint).write()
    for at in [at for module in modules for at in module.others]:
        draft.lost(
            at, "it may change or protect every route", "look at it, and write what it means"
        )
        for route in draft.routes:
            route.close(at, "it may protect this route", "write what it means, and open the route")
    draft.differs(
        sources[0].at(1, "the whole file"),
        "these are the routes that were found in the source, as a start; what functions do beside it is not read",
    )
    first_wins(draft)


class _Writer:
    """Writes the routes of one function."""

    def __init__(self, draft: Draft, module: Module, endpoint: Endpoint) -> None:
        self._draft, self._module, self._endpoint = draft, module, endpoint

    def write(self) -> None:
        """Write a route for each service that the function may ask."""
        endpoint, path = self._endpoint, self._endpoint.path
        if endpoint.unknown:
            self._draft.lost(endpoint.at, endpoint.unknown, "write a route for it")
            return
        table = self._table()
        first = _NAMED.match(path.lstrip("/"))
        prefixed = path.startswith(f"/{{{first['name']}}}") if first else False
        if table and first and prefixed:
            for name, url in table.items():
                begin = f"/{first['name']}".replace(first["name"], name)
                route = self._route(begin + path[len(first[0]) + 1 :])
                self._connect(route, name, url)
                self._rewritten(route, first["name"])
            return
        route = self._route(path)
        url = self._url()
        if url:
            self._connect(route, _host(url), url)
        else:
            route.close(
                endpoint.at, "to whom the function sends is not plain", "write service and rewrite"
            )

    def _route(self, path: str) -> Route:
        endpoint = self._endpoint
        plain, rest = _plain(path)
        route = self._draft.route(plain, endpoint.at)
        if not rest:
            route.put("exact", value=True)
        if endpoint.methods:
            route.methods(endpoint.methods, endpoint.at, websockets=False)
        if rest and not endpoint.path.endswith("}"):
            route.close(endpoint.at, "a path goes on behind {…:path}", "write the route")
        asks = [*endpoint.asks, *self._module.shared]
        route.put("auth", "required")
        if asks or endpoint.decorators:
            what = ", ".join(dict.fromkeys([*asks, *endpoint.decorators]))
            route.close(
                endpoint.at, f"it asks {what}, which is Python",
                "auth: required stands below; write auth.jwt, scopes or roles as the function means them, and open the route",
            )  # fmt: skip
        else:
            route.differs(
                endpoint.at,
                "no Depends stands at it; auth: required until you have read the function, then auth: none if it is open",
            )
        return route

    def _connect(self, route: Route, name: str, url: str) -> None:
        found = _URL.fullmatch(url)
        if not isinstance(url, Variable) and found is None:
            route.close(
                self._endpoint.at,
                f"the address of {name} is not a plain text",
                "write services.X.url",
            )
            return
        part = self._service(name, url if isinstance(url, Variable) else url.rstrip("/"))
        route.put("service", part.name)
        route.same(self._endpoint.at, f"routes: {route.name}: service: {part.name}")
        route.report_only(self._endpoint.at, _RULES)

    def _service(self, name: str, url: str) -> Part:
        part = self._draft.service(name, self._endpoint.at)
        if part.keys.get("url") not in (None, url):
            part = self._draft.service(f"{name}-{len(self._draft.services)}", self._endpoint.at)
        if "url" not in part.keys:
            part.set("url", url, self._endpoint.at)
        return part

    def _rewritten(self, route: Route, name: str) -> None:
        """Strip the service's name from the path, unless the function sends it on."""
        templates = [text for text in _templates(self._endpoint.function) if "://" not in text[:8]]
        sends_name = any(f"{{{name}}}" in text.partition("}")[2] for text in templates)
        whole = any(
            "url.path" in ast.unparse(node)
            for node in ast.walk(self._endpoint.function)
            if isinstance(node, ast.Attribute)
        )
        if sends_name or whole or not templates:
            route.close(
                self._endpoint.at,
                "which path the service gets is not plain",
                "write strip_prefix or rewrite",
            )
            return
        ends = [text for text in templates if re.fullmatch(r"\{[^{}]+\}/?\{\w+\}", text)]
        if len(ends) == len(templates) == 1:
            route.set("strip_prefix", True, self._endpoint.at, protects=True)
        else:
            route.close(
                self._endpoint.at,
                "which path the service gets is not plain",
                "write strip_prefix or rewrite",
            )

    def _table(self) -> dict[str, str]:
        """Return the dictionary of services that the function uses, if it is one."""
        names = self._module.names_in(self._endpoint.function)
        found = [
            table
            for name, table in self._module.tables.items()
            if name in names
            and any("://" in url or isinstance(url, Variable) for url in table.values())
        ]
        return found[0] if len(found) == 1 else {}

    def _url(self) -> str:
        """Return the address for a function that sends the path on as it is; empty if it is not plain."""
        asked = [text for text in _templates(self._endpoint.function) if _URL.match(text)]
        names = self._module.names_in(self._endpoint.function)
        known = [
            text for name, text in self._module.texts.items() if name in names and ("://" in text)
        ]
        exact = "{" not in self._endpoint.path
        for text in asked:
            found = _URL.fullmatch(text)
            if found and exact and (found["path"] or "/") == self._endpoint.path:
                return found["origin"]
        if len(known) == 1 and not asked:
            wanted = _NAMED.sub("{}", _REST.sub("{}", self._endpoint.path))
            for text in _templates(self._endpoint.function):
                rest = text.partition("}")[2]
                if text.startswith("{") and _NAMED.sub("{}", rest) == wanted:
                    return known[0]
        return ""


def _templates(function: ast.AST) -> list[str]:
    """Return the f-strings that may be addresses, with {…} for what is put in."""
    made = []
    for node in ast.walk(function):
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(one.value) if isinstance(one, ast.Constant) else f"{{{ast.unparse(one.value)}}}"
                for one in node.values
                if isinstance(one, ast.Constant | ast.FormattedValue)
            )
            if "/" in text or text.startswith("{"):
                made.append(text)
    return [text for text in made if text.startswith(("{", "http")) and " " not in text]


def _plain(path: str) -> tuple[str, bool]:
    """Return a path of ours, and whether all below it is taken."""
    rest = _REST.search(path)
    if rest:
        path = path[: rest.start()]
    plain = _TYPED.sub(lambda match: f"{{{match['name']}}}", path)
    return (plain.rstrip("/") or "/", True) if rest else (plain, False)


def _host(url: str) -> str:
    found = re.search(r"://([\w.-]+)", url)
    return found[1].partition(".")[0] if found else "service"
