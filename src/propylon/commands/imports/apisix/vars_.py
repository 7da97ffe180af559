"""Conditions of routes: `vars`, expressions of lua-resty-expr."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.parts import Route
from propylon.commands.imports.tree import Item

__all__ = ["conditions"]

_KINDS = {"arg_": "query", "http_": "headers", "cookie_": "cookies"}
_TRIPLE = 3


def conditions(route: Route, expressions: Item) -> None:
    """Translate conditions that all must hold; one that cannot be said closes the route."""
    for expression in expressions.each():
        found = _condition(expression.value)
        if found is None:
            route.close(
                expression.at,
                "a condition that `match` cannot say",
                "write match, or leave it out knowingly",
            )
            continue
        kind, name, values = found
        match = dict(route.keys.get("match", {}).get(kind, {}))
        route.set(f"match.{kind}", {**match, name: values}, expression.at, protects=True)


def _condition(value: object) -> tuple[str, str, Any] | None:
    if not isinstance(value, list) or len(value) != _TRIPLE:
        return None
    variable, operator, wanted = value
    kind = next((one for one in _KINDS if str(variable).startswith(one)), "")
    if not kind:
        return None
    name = str(variable).removeprefix(kind)
    if kind == "http_":
        name = "-".join(part.capitalize() for part in name.split("_"))
    if operator == "==" and isinstance(wanted, str | int) and not str(wanted).endswith("*"):
        return _KINDS[kind], name, str(wanted)
    if (
        operator in ("IN", "in")
        and isinstance(wanted, list)
        and not any(str(one).endswith("*") for one in wanted)
    ):
        return _KINDS[kind], name, [str(one) for one in wanted]
    return None
