"""Read the rules of Traefik's routers, as far as they say what a route of ours can say. Pure."""

import re
from dataclasses import dataclass

__all__ = ["Matched", "parse_rule"]

# Host(`a`, `b`) and the like; arguments in back quotes or double quotes.
_TERM = re.compile(
    r'\s*(?P<name>[A-Za-z]+)\(\s*(?P<arguments>(?:[`"][^`"]*[`"]\s*(?:,\s*)?)+)\)\s*'
)
_ARGUMENT = re.compile(r'[`"]([^`"]*)[`"]')
_KNOWN = ("Host", "Path", "PathPrefix", "Method")
_MOST = 16  # terms, and values of one term


@dataclass(frozen=True, slots=True)
class Matched:
    """What a rule asks for: hosts, methods, and paths, each with whether it is the whole path; empty: any."""

    hosts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    paths: tuple[tuple[str, bool], ...] = ()


def parse_rule(text: str) -> Matched:
    """Return what a rule asks for. Raises ValueError for one that a route of ours cannot say."""
    found: dict[str, tuple[str, ...]] = {}
    for part in _parts(text):
        name, values = _alternatives(part)
        # Twice the same would be both at once; a path is one or the other.
        kind = "Path" if name == "PathPrefix" else name
        if any(kind == ("Path" if known == "PathPrefix" else known) for known in found):
            msg = f"asks for {kind} twice; write one"
            raise ValueError(msg)
        found[name] = values
    paths = [(path, True) for path in found.get("Path", ())]
    paths += [(path.rstrip("/") or "/", False) for path in found.get("PathPrefix", ())]
    methods = tuple(method.upper() for method in found.get("Method", ()))
    return Matched(found.get("Host", ()), methods, tuple(paths))


def _parts(text: str) -> list[str]:
    """Return the parts that all have to be true."""
    parts = text.split("&&")
    if len(parts) > _MOST:
        msg = "has too many parts"
        raise ValueError(msg)
    return parts


def _alternatives(part: str) -> tuple[str, tuple[str, ...]]:
    """Return one kind of matcher, and the values of which any will do. Raises ValueError."""
    part = part.strip()
    if part.startswith("(") and part.endswith(")"):
        part = part[1:-1]
    names, values = set(), []
    for one in part.split("||"):
        match = _TERM.fullmatch(one)
        if match is None or match["name"] not in _KNOWN:
            msg = "has more than Host, Path, PathPrefix and Method, joined by && and, among their like, by ||"
            raise ValueError(msg)
        names.add(match["name"])
        values += _ARGUMENT.findall(match["arguments"])
    if len(names) != 1 or len(values) > _MOST:
        msg = "joins unlike parts by ||, or too many; write a router for each"
        raise ValueError(msg)
    return names.pop(), tuple(values)
