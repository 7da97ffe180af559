"""Hold nginx's choice of a location against ours: the longest prefix, but expressions before it, in their order."""

from __future__ import annotations

from enum import Enum
from itertools import combinations

from propylon.commands.imports.overlap import keep_before
from propylon.commands.imports.parts import Route

__all__ = ["Kind", "keep_order"]


class Kind(Enum):
    """How a location matches."""

    EXACT = "="
    FIRM = "^~"
    PREFIX = ""
    REGEX = "~"


def keep_order(routes: list[tuple[Kind, Route]]) -> None:
    """Close or report where a route here gets requests that are another location's there.

    Prefixes are alike: the longest wins in both. An expression comes before every prefix but `^~`, and before those
    expressions that stand after it.
    """
    for (kind, route), (other_kind, other) in combinations(routes, 2):
        if kind is Kind.REGEX and other_kind is Kind.REGEX:
            keep_before(route, other)
            continue
        if Kind.REGEX not in (kind, other_kind):
            continue
        regex, prefix, which = (
            (route, other, other_kind) if kind is Kind.REGEX else (other, route, kind)
        )
        if which is Kind.PREFIX:
            keep_before(regex, prefix)
        else:
            keep_before(prefix, regex)
