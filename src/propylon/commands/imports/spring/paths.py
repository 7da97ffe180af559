"""Patterns of paths."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Pattern", "path_of"]

_NAMED = re.compile(r"\{(?P<name>[A-Za-z_]\w*)(?::(?P<regex>.+))?\}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path of ours for a pattern of Spring's; `wide` says what takes more, `why` that there is no path."""

    path: str
    exact: bool = True
    wide: str = ""
    why: str = ""


def path_of(text: str) -> Pattern:
    """Return the path for a pattern such as `/api/{id}/**`."""
    segments, wide = [], []
    parts = text.strip("/").split("/") if text.strip("/") else []
    exact = True
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        named = _NAMED.fullmatch(part)
        if last and (part == "**" or re.fullmatch(r"\{\*\w+\}", part)):
            exact = False
        elif part == "*":
            segments.append(f"{{p{number + 1}}}")
        elif named:
            segments.append(f"{{{named['name']}}}")
            wide += [
                f"{{{named['name']}}} takes any segment, the original only {named['regex']}"
            ] * bool(named["regex"])
        elif re.search(r"[*?{}]", part):
            return Pattern(
                "/" + "/".join(segments), exact=False, why=f"the pattern {part} within a segment"
            )
        else:
            segments.append(part)
    path = "/" + "/".join(segments)
    return Pattern(path, exact, "; ".join(wide))
