"""Hold the written file against our own check, and close what it refuses.

A reader cannot know all rules between keys: two routes that match equally well, a header that two keys set. What the
check refuses is closed first; if that does not help, it is taken out, and the report says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from pydantic import ValidationError

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.known import without_files
from propylon.commands.imports.parts import Route
from propylon.commands.imports.source import Unreadable
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.check import cross_check
from propylon.config.reading.document import Unreadable as BadDocument
from propylon.config.reading.document import read
from propylon.config.reading.file import LARGEST_FILE
from propylon.config.reading.messages import findings
from propylon.config.reading.problems import Places, Problem

__all__ = ["problems_of", "settle"]

_ROUTE = re.compile(r"routes\[(\d+)\]")
_SERVICE = re.compile(r"services\.(.+?)(?:\.(\w+).*)?$")
_VARIABLE = re.compile(r"(?<!\$)(?:\$\$)*\$\{(\w+)\}")
_MOST_ROUNDS = 12


def settle(draft: Draft, write: Callable[[], str]) -> str:
    """Return the text that our own check takes. Raises Unreadable if there is none."""
    for _ in range(_MOST_ROUNDS):
        text = write()
        if len(text.encode()) > LARGEST_FILE:
            msg = "what comes of it is larger than 1 MiB, the most that propylon reads; import parts, and include them"
            raise Unreadable(msg)
        problems = problems_of(text)
        if not problems:
            return text
        _mend(draft, problems)
    first = problems[0]
    msg = f"propylon refuses what it wrote itself, at {first.where}: {first.message}"
    raise Unreadable(msg)


def problems_of(text: str) -> tuple[Problem, ...]:
    """Return what our own check has against a text. Variables count as set, and no file is read."""
    environ = {name: _stand_in(name) for name in _VARIABLE.findall(text)}
    try:
        document = read(text, environ)
    except BadDocument as error:
        return (Problem(f"propylon.yaml:{error.line}", "", error.message),)
    found = [*document.problems]
    value = _without_files(document.value)
    try:
        GatewayConfig.model_validate(value)
    except ValidationError as error:
        found += findings(error, value)
    places = Places("propylon.yaml", document.lines)
    found += cross_check(value, places.named)
    return places.ordered(found)


def _without_files(value: object) -> Any:
    routes = value.get("routes") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(routes, list):
        return value
    kept = [
        (
            {key: without_files(key, inner) for key, inner in route.items()}
            if isinstance(route, dict)
            else route
        )
        for route in routes
    ]
    return {**value, "routes": kept}


def _stand_in(name: str) -> str:
    """Return a value that can be a URL and a secret: nobody knows which of the two a variable is."""
    return f"http://{sha256(name.encode()).hexdigest()[:40]}.invalid"


def _mend(draft: Draft, problems: tuple[Problem, ...]) -> None:
    gone: list[Route] = []
    for problem in problems:
        if (found := _ROUTE.match(problem.where)) and int(found[1]) < len(draft.routes):
            route = draft.routes[int(found[1])]
            if route not in gone and _mend_route(draft, route, problem.message):
                gone.append(route)
        elif found := _SERVICE.match(problem.where):
            _mend_service(draft, found[1], found[2] or "", problem.message)
        else:
            _mend_section(draft, problem)
    draft.routes[:] = [route for route in draft.routes if not any(route is one for one in gone)]


def _mend_route(draft: Draft, route: Route, message: str) -> bool:
    """Close a route; return True if it was closed already, and must go."""
    if not route.closed:
        route.close(route.at, f"propylon refuses the route: {message}", "decide what it should say")
        return False
    draft.lost(
        route.at,
        f"the route {route.keys.get('path')} is left out, because propylon refuses it: {message};"
        " another route may get its requests",
        "write it by hand",
    )
    return True


def _mend_service(draft: Draft, name: str, key: str, message: str) -> None:
    part = draft.services.get(name)
    if part is None or key not in part.keys:
        _close_all(draft, name, message)
        draft.services.pop(name, None)
        return
    del part.keys[key]
    part.lost(part.at, f"propylon refuses `{key}`: {message}")
    _close_all(draft, name, f"its service lost `{key}`: {message}")


def _close_all(draft: Draft, service: str, message: str) -> None:
    for route in draft.routes:
        if route.keys.get("service") == service:
            route.close(route.at, f"its service is refused: {message}", "write it by hand")


def _mend_section(draft: Draft, problem: Problem) -> None:
    key = problem.where.partition(".")[0].partition("[")[0]
    if key not in draft.sections.keys:
        msg = f"propylon refuses what it wrote itself: {problem.where}: {problem.message}"
        raise Unreadable(msg)
    del draft.sections.keys[key]
    draft.lost(draft.sections.at, f"propylon refuses `{key}`: {problem.message}")
    for route in draft.routes:
        route.close(
            route.at, f"the section {key} is refused: {problem.message}", "write it by hand"
        )
