"""Filters that change headers and the query."""

from __future__ import annotations

import re

from propylon.commands.imports.known import has_key, refusal
from propylon.commands.imports.parts import Route
from propylon.commands.imports.spring.properties import Step

__all__ = ["add", "map_header", "parameters", "remove", "secure", "set_"]

_SEGMENT = re.compile(r"\{(?P<name>\w+)\}")
_SECURE = {
    "X-XSS-Protection": "1 ; mode=block",
    "Strict-Transport-Security": "max-age=631138519",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self' https:; font-src 'self' https: data:; img-src 'self' https: data:;"
    " object-src 'none'; script-src https:; style-src 'self' https: 'unsafe-inline'",
    "X-Download-Options": "noopen",
    "X-Permitted-Cross-Domain-Policies": "none",
}


def _template(route: Route, value: str) -> str | None:
    """Return our template for a value with `{segment}`; None if this version has none, or no such segment."""
    if not has_key("route", "query"):  # templates came with it
        return None if _SEGMENT.search(value) else value
    for match in _SEGMENT.finditer(value):
        if match[0] not in str(route.keys["path"]):
            return None
    plain = _SEGMENT.sub("", value)
    return (
        None
        if "{" in plain or "}" in plain
        else _SEGMENT.sub(lambda match: f"{{path.{match['name']}}}", value)
    )


def _put(route: Route, side: str, verb: str, step: Step, difference: str = "") -> None:
    name, value = step.value(0, "name"), step.value(1, "value")
    ours = _template(route, value)
    if ours is None:
        route.close(
            step.at, f"the value of {name} has a variable that propylon has not", "write a template"
        )
        return
    inside = dict(route.keys.get("headers", {}).get(side, {}).get(verb, {}))
    route.set(
        f"headers.{side}.{verb}",
        {**inside, name: ours},
        step.at,
        difference,
        protects=side == "request",
    )


def set_(route: Route, side: str, step: Step) -> None:
    """Set a header."""
    _put(route, side, "set", step)


def add(route: Route, side: str, step: Step) -> None:
    """Add a header beside those that are there; where this version cannot, set it."""
    if not refusal("route", "headers", {side: {"add": {"X-A": "b"}}}):
        _put(route, side, "add", step)
    else:
        _put(route, side, "set", step, "it replaces what is there, and is not added to it")


def remove(route: Route, side: str, step: Step) -> None:
    """Remove a header."""
    names = [*route.keys.get("headers", {}).get(side, {}).get("remove", []), step.value(0, "name")]
    route.set(f"headers.{side}.remove", names, step.at, protects=side == "request")


def parameters(route: Route, step: Step) -> None:
    """Add or remove a parameter of the query."""
    name = step.value(0, "name")
    if step.name == "RemoveRequestParameter":
        names = [*route.keys.get("query", {}).get("remove", []), name]
        route.set("query.remove", names, step.at, protects=True)
        return
    ours = _template(route, step.value(1, "value"))
    if ours is None:
        route.close(
            step.at, f"the value of {name} has a variable that propylon has not", "write a template"
        )
        return
    inside = dict(route.keys.get("query", {}).get("add", {}))
    route.set("query.add", {**inside, name: ours}, step.at, protects=True)


def map_header(route: Route, step: Step) -> None:
    """Copy a header to another name."""
    source, target = step.value(0, "fromHeader"), step.value(1, "toHeader")
    if not has_key("route", "query"):
        route.close(step.at, "this version of propylon has no templates in values")
        return
    inside = dict(route.keys.get("headers", {}).get("request", {}).get("set", {}))
    route.set(
        "headers.request.set", {**inside, target: f"{{header.{source}}}"}, step.at, protects=True
    )


def secure(route: Route, step: Step) -> None:
    """Set the headers of the filter SecureHeaders, with its defaults."""
    inside = dict(route.keys.get("headers", {}).get("response", {}).get("set", {}))
    difference = (
        "they replace the service's own"
        if not step.args
        else "the defaults, without what disables some"
    )
    route.set("headers.response.set", {**_SECURE, **inside}, step.at, difference)
