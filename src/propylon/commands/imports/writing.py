"""Write the draft as a propylon.yaml, with comments for the person who takes it over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.parts import Part, Route
from propylon.commands.imports.scalars import comment_lines, flow

__all__ = ["CLOSED", "written"]

CLOSED: dict[str, Any] = {
    "respond": {
        "status": 503,
        "body": "This route was imported, and a part of it is not translated yet.",
    }
}
_FIRST = ("name", "path")
# What stays of a closed route: which requests it takes. Less specific routes must not get them.
_MATCHING = ("name", "path", "exact", "methods", "hosts", "match", "priority")
_WIDEST = 90
_HEAD = """\
# Written by `propylon import {format}` from {files}. Read it before you use it:
# a remark above a part says what differs from the original; "NOT translated" says what is missing.
# `propylon check` reports what is wrong, `propylon routes` shows the table, `propylon explain` decides a request.
"""


def written(draft: Draft, form: str, files: list[str]) -> str:
    """Return the text of the file."""
    names = ", ".join("".join(c if c.isprintable() else " " for c in name) for name in files)
    lines = [_HEAD.format(format=form, files=names)]
    lines += _sections(draft)
    lines += _services(draft)
    lines += _routes(draft)
    return "\n".join(lines).rstrip("\n") + "\n"


def _sections(draft: Draft) -> Iterator[str]:
    for remark in draft.sections.remarks:
        yield from comment_lines(remark, "")
    if draft.sections.keys:
        yield from _mapping(draft.sections.keys, "")
        yield ""


def _services(draft: Draft) -> Iterator[str]:
    if not draft.services:
        return
    yield "services:"
    for name, part in draft.services.items():
        yield from _remarks(part, "  ")
        body = list(_mapping(part.keys, "    "))
        yield f"  {flow(name)}:" if body else f"  {flow(name)}: {{}}"
        yield from body
        yield ""


def _routes(draft: Draft) -> Iterator[str]:
    yield "routes:" if draft.routes else "routes: []"
    for route in draft.routes:
        yield from _remarks(route, "  ")
        yield from _route(route)
        yield ""


def _remarks(part: Part, indent: str) -> Iterator[str]:
    yield from comment_lines(f"{part.at.place} {part.at.what}", indent)
    for remark in part.remarks:
        yield from comment_lines(remark, indent)


def _route(route: Route) -> Iterator[str]:
    keys = {key: route.keys[key] for key in _FIRST if key in route.keys} | route.keys
    if not route.closed:
        if route.opened and "auth" not in keys:
            keys["auth"] = "none"
        yield from _item(keys)
        return
    kept = {key: value for key, value in keys.items() if key in _MATCHING}
    yield from comment_lines(f"CLOSED: {route.closed}", "  ")
    yield from _item({**kept, "auth": "none", **CLOSED})
    rest = {key: value for key, value in keys.items() if key not in _MATCHING}
    if rest:
        yield "    # Once it is protected, take the two keys above away and these in:"
        yield from (f"    #   {line}" for line in _mapping(rest, ""))


def _item(keys: dict[str, Any]) -> Iterator[str]:
    for number, line in enumerate(_mapping(keys, "")):
        yield f"    {line}" if number else f"  - {line}"


def _mapping(keys: dict[str, Any], indent: str) -> Iterator[str]:
    for key, value in keys.items():
        line = f"{indent}{flow(key)}: {flow(value)}"
        if len(line) <= _WIDEST or not isinstance(value, dict | list | tuple) or not value:
            yield line
        elif isinstance(value, dict):
            yield f"{indent}{flow(key)}:"
            yield from _mapping(value, f"{indent}  ")
        else:
            yield f"{indent}{flow(key)}:"
            yield from (f"{indent}  - {flow(inner)}" for inner in value)
