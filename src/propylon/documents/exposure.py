"""Say what of a service one route shows, and under which public paths. Pure.

A document has the paths that the service gets; clients see those of the route. `strip_prefix` and `rewrite` are undone here:

    route /shop/{tenant}, rewrite /v2/{tenant}     document /v2/{shop}/parts/{id}     →  /shop/{shop}/parts/{id}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

import orjson

from propylon.documents.document import Operation
from propylon.documents.read import SEGMENT

__all__ = ["ORDINARY", "Exposure", "Place", "sample"]

Auth = Literal["required", "optional", "none"]

# The methods that are shown of a route that is open to all methods.
ORDINARY = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REST = "rest"
_PARAMETER = re.compile(r"\{([^{}]*)\}")
# What RFC 3986, 3.3 allows in a segment.
_SAFE = "!$&'()*+,;=:@~"


@dataclass(frozen=True, slots=True)
class Place:
    """A public path, and its parameters by name with the JSON text of their members."""

    segments: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exposure:
    """A route, as far as the document tells of it.

    `path` is split; `{name}` stands for one segment. `replaced` are the segments that the service gets in its place; None:
    it gets them as they are. `methods` None: all. `limits` are words for people.
    """

    name: str
    service: str
    path: tuple[str, ...]
    exact: bool = False
    replaced: tuple[str, ...] | None = None
    methods: frozenset[str] | None = None
    hosts: tuple[str, ...] = ()
    auth: Auth = "required"
    scopes: frozenset[str] = frozenset()
    roles: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    enforced: bool = False  # `security: from-document`

    def place(self, operation: Operation) -> Place | None:
        """Return where clients find an operation of the service; None if this route does not lead to it."""
        if self.methods is not None and operation.method not in self.methods:
            return None
        front = self.path if self.replaced is None else self.replaced
        segments = operation.segments
        if len(segments) < len(front) or (self.exact and len(segments) > len(front)):
            return None
        bound: dict[str, str] = {}
        for mine, theirs in zip(front, segments, strict=False):
            if mine.startswith("{"):
                bound[mine] = theirs
            elif mine != theirs and not _PARAMETER.fullmatch(theirs):
                return None  # where a parameter stands, the operation is shown with the literal of the route
        rest = segments[len(front) :]
        taken = {*_PARAMETER.findall("/".join((*bound.values(), *rest)))}
        public = tuple(bound.get(one, _free(one, taken)) for one in self.path) + rest
        known = operation.path_parameters
        names = _PARAMETER.findall("/".join(public))
        return Place(public, {name: known.get(name) or _members(name) for name in names})

    def places(self) -> tuple[Place, ...]:
        """Return the places of a route whose service has no document: its own path, and what is below."""
        names = _PARAMETER.findall("/".join(self.path))
        own = Place(self.path, {name: _members(name) for name in names})
        if self.exact:
            return (own,)
        rest = _free(f"{{{_REST}}}", set(names))
        below = {rest[1:-1]: _members_of_rest()}
        return own, Place((*self.path, rest), {**own.parameters, **below})


def _free(segment: str, taken: set[str]) -> str:
    """Return a segment of the route's own; its parameter gets another name if the service has one of that name."""
    if not segment.startswith("{"):
        return segment
    name, number = segment[1:-1], 2
    while name in taken:
        name, number = f"{segment[1:-1]}_{number}", number + 1
    return f"{{{name}}}"


def _members(name: str) -> str:
    schema = {"type": "string", "pattern": SEGMENT, "examples": [name]}
    members = {"description": f"The segment `{name}` of the path.", "schema": schema}
    return orjson.dumps(members).decode()[1:-1]


def _members_of_rest() -> str:
    members = {
        "description": "What is below the path of the route: one segment or more.",
        "schema": {"type": "string", "pattern": SEGMENT, "examples": ["items"]},
    }
    return orjson.dumps(members).decode()[1:-1]


def sample(segments: tuple[str, ...]) -> bytes:
    """Return a path that a client could send for a public path with parameters."""
    # No route has a literal `~` where another has a parameter; if one had, the operation would not be shown.
    return b"/" + "/".join(quote(_PARAMETER.sub("~", one), safe=_SAFE) for one in segments).encode()
