"""Refuse the path patterns of other gateways, and say what to write instead. Pure.

A route's path is literal, but for `{name}`. RFC 3986 allows `*`, `:` and `~` in a path, so `/a/*` is a valid path
that no client ever asks for: without a refusal the route would match nothing, and say nothing.
"""

import re

__all__ = ["check_no_pattern"]

# /:id of Express, Rails and Gin; /<id> and /<int:id> of Flask.
_COLON = re.compile(r":([A-Za-z_]\w*)?.*")
_ANGLE = re.compile(r"<(?:[^<>:]*:)?([A-Za-z_]\w*)>")
# Kong and nginx begin a regular expression with "~". "/~alice" is a user's home page, "/~^/a$" is a regular expression.
_OF_REGEX = frozenset("^$()[]+|")


def check_no_pattern(path: str) -> str:
    """Return the path of a route unchanged. Raises ValueError for a pattern of another gateway's syntax."""
    if "~" in path and _OF_REGEX & set(path):
        msg = (
            f'"{path}" looks like a regular expression, and a route has none; write the path that the requests begin'
            " with, and {name} for a segment that varies"
        )
        raise ValueError(msg)
    segments = path.split("/")
    for at, segment in enumerate(segments):
        if "*" in segment:
            raise ValueError(_star(path, segments, at))
        name = _foreign_name(segment)
        if name is not None:
            instead = "/".join([*segments[:at], f"{{{name}}}", *segments[at + 1 :]])
            msg = f'"{segment}" is literal here; write {{{name}}} for a segment that varies: "{instead}"'
            raise ValueError(msg)
    return path


def _foreign_name(segment: str) -> str | None:
    """Return the name of a segment that another router would fill; None: the segment is literal here, too."""
    match = _COLON.fullmatch(segment) or _ANGLE.fullmatch(segment)
    return None if match is None else match[1] or "name"


def _star(path: str, segments: list[str], at: int) -> str:
    said = f'"{path}" matches a literal "*"'
    literal = "%2A for a star"
    is_last = not any(segment.strip("*") for segment in segments[at + 1 :])
    if is_last and not segments[at].strip("*"):
        above = "/".join(segments[:at]) or "/"
        return f'{said}; write "{above}" to match everything below it, and {literal}'
    return f"{said}; write {{name}} for one whole segment, and {literal}"
