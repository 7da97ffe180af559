"""Compile `match`: what a request must have besides its path."""

from __future__ import annotations

from typing import cast

from propylon.config.models.match import MatchConfig
from propylon.proxy.conditions import Condition, Conditions, Kind

__all__ = ["compile_conditions"]


def compile_conditions(written: MatchConfig) -> Conditions | None:
    """Return the conditions of a route; None where it has none."""
    every = tuple(
        Condition(
            cast("Kind", kind),
            name.encode("ascii"),
            frozenset(text.encode("ascii") for text in values.exact),
            tuple(text.encode("ascii") for text in values.prefixes),
            values.anything,
        )
        for kind, name, values in written.conditions()
    )
    return Conditions(every, written.rank) if every else None
