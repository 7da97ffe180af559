"""Predicates: which requests a route takes."""

from __future__ import annotations

import re

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.networks import network
from propylon.commands.imports.parts import Route
from propylon.commands.imports.report import At
from propylon.commands.imports.spring.paths import path_of
from propylon.commands.imports.spring.properties import Step

__all__ = ["weight_of", "write_routes"]

_CHOICES = re.compile(r"\^?\(?(?P<inside>[\w.@:/ -]+(?:\|[\w.@:/ -]+)*)\)?\$?")
_HOST = re.compile(r"(?:\*\*|\*|\{\w+\})\.(?P<rest>[\w.-]+)")


def write_routes(name: str, predicates: list[Step], at: At, draft: Draft) -> list[Route]:
    """Write a route of ours for each pattern of the path."""
    paths = next((step for step in predicates if step.name == "Path"), None)
    texts = [text for text in paths.every() if text not in ("true", "false")] if paths else ["/**"]
    routes = []
    for number, text in enumerate(texts):
        own = name if number == 0 or not name else f"{name}-{number + 1}"
        route = _placed(text, own, paths.at if paths else at, at, draft)
        for step in predicates:
            _apply(step, route)
            for left in step.untaken():
                route.close(left.at, "the importer does not know this argument")
        routes.append(route)
    return routes


def weight_of(predicates: list[Step]) -> tuple[str, int, At] | None:
    """Return group and weight, if a route has only a share of the requests."""
    for step in predicates:
        if step.name == "Weight":
            weight = step.value(1, "weight")
            return step.value(0, "group"), int(weight) if weight.isdigit() else 0, step.at
    return None


def _placed(text: str, name: str, place: At, at: At, draft: Draft) -> Route:
    pattern = path_of(text)
    route = draft.route(pattern.path, at, name)
    if pattern.exact:
        route.put("exact", value=True)
    if pattern.why:
        route.close(place, pattern.why, "write the paths that it means")
    elif pattern.wide:
        route.wide = pattern.wide
        route.differs(place, pattern.wide)
    else:
        route.same(place, f"routes: path: {pattern.path}")
    return route


def _apply(step: Step, route: Route) -> None:
    match step.name:
        case "Path":
            return
        case "Weight":
            step.ignore("group", "weight")  # the reader puts routes of one group together
        case "Method":
            route.methods(step.every(), step.at)
        case "Host":
            _hosts(step, route)
        case "Header" | "Cookie" | "Query":
            _match(step, route)
        case "RemoteAddr":
            route.set(
                "clients",
                {"allow": [network(text) for text in step.every()]},
                step.at,
                "other clients get 403, and no other route is tried for them",
                protects=True,
            )
        case _:
            route.close(
                step.at,
                f"the predicate {step.name}",
                "write what it means, or leave it out knowingly",
            )


def _hosts(step: Step, route: Route) -> None:
    hosts, loose = [], False
    for text in step.every():
        host = text.partition(":")[0]
        wild = _HOST.fullmatch(host)
        loose = loose or (wild is not None and not host.startswith("**"))
        hosts.append(f"*.{wild['rest']}" if wild else host)
    difference = "* stands for one label or more" if loose else ""
    route.set("hosts", hosts, step.at, difference, protects=True)


def _match(step: Step, route: Route) -> None:
    kind = {"Header": "headers", "Cookie": "cookies", "Query": "query"}[step.name]
    name = step.value(0, "header", "name", "param")
    regex = step.value(1, "regexp", "regex")
    values: object = True
    if regex and regex not in (".*", ".+"):
        found = _CHOICES.fullmatch(regex)
        # A dot in a version or a name stands for any character there; taken as a dot, fewer requests fit.
        if found is None:
            route.close(step.at, f"the regular expression {regex}", "list the values in match")
            return
        values = found["inside"].split("|")
    inside = dict(route.keys.get("match", {}).get(kind, {}))
    route.set(f"match.{kind}", {**inside, name: values}, step.at, protects=True)
