"""Hold one service's OpenAPI document as the gateway uses it: checked, renamed, immutable. Pure.

The parts of a document that the gateway only shows are kept as JSON text. So a document of 5 MB takes little memory, no
object of it is searched for garbage, and the merged document is made by joining texts.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from propylon.proxy.check.answer import AnswerCheck
from propylon.proxy.check.operation import OperationCheck
from propylon.wire.spellings import fold

__all__ = ["BrokenDocument", "Checks", "Document", "Operation", "Security"]

# By `Operation.key`; None: the gateway cannot check requests of this operation.
Checks = Mapping[tuple[str, tuple[str, ...]], OperationCheck | None]


_PARAMETERS = re.compile(r"(?:\{[^{}]*\})+")


class BrokenDocument(Exception):
    """A document that the gateway cannot use; the text says what is wrong with it, and where."""


@dataclass(frozen=True, slots=True)
class Security:
    """Which tokens an operation accepts.

    `alternatives` are sets of scopes: a token that has all scopes of one of them is good. `optional`: no token is needed,
    or the service checks something that the gateway cannot verify, such as an API key.
    """

    alternatives: tuple[frozenset[str], ...] = ()
    optional: bool = True

    def permits(self, scopes: frozenset[str], *, known: bool) -> bool:
        """Tell whether a caller with these scopes may call the operation; `known`: the caller has sent a token."""
        return self.optional or (known and any(one <= scopes for one in self.alternatives))

    def with_scopes(self, scopes: frozenset[str]) -> tuple[frozenset[str], ...]:
        """Return the alternatives for a route that wants a token with these scopes as well."""
        return tuple(dict.fromkeys(one | scopes for one in self.alternatives)) or (scopes,)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a service. Its path is what an instance gets, without the base path of its URL.

    - `segments`: the path, split; `{id}` stands for one segment.
    - `path_parameters`: by name, the JSON text of the members behind `name`, `in` and `required`.
    - `parameters`: the JSON texts of all other parameters.
    - `body`: the JSON text of the request body; empty: there is none.
    - `members`: the JSON text of further members of the operation, without braces.
    - `responses`: by status, JSON texts.
    - `required`: what a request must have; `returned`: what answers always have. Both are compared, not shown.
    """

    method: str
    segments: tuple[str, ...]
    id: str
    summary: str
    description: str
    security: Security
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    body: str = ""
    members: str = ""
    responses: Mapping[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()
    # The method and the path, without the names of its parameters: what clients cannot tell apart is the same.
    key: tuple[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    # The parameters that are a whole segment each, with their places in the path.
    whole: tuple[tuple[int, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derive what each request asks for."""
        key = self.method, tuple(_PARAMETERS.sub("{}", one) for one in self.segments)
        whole = tuple(
            (at, one[1:-1])
            for at, one in enumerate(self.segments)
            if one[:1] == "{" and one[-1:] == "}" and "}" not in one[:-1]
        )
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "whole", whole)

    @property
    def path(self) -> str:
        """The path as the service wrote it."""
        return "/" + "/".join(self.segments)


class _Node:
    """A place in the tree of paths."""

    __slots__ = ("any", "literal", "mixed", "operations")

    def __init__(self) -> None:
        # Most places have none of them: what is not there need not be searched for garbage.
        self.literal: dict[str, _Node] | None = None
        self.mixed: dict[tuple[str, ...], _Node] | None = None  # by what stands around parameters
        self.any: _Node | None = None
        self.operations: tuple[Operation, ...] = ()

    def below(self, segment: str) -> _Node:
        """Return the place of a segment of a path; make it if there is none."""
        around = tuple(map(_folded, _PARAMETERS.split(segment)))
        if len(around) == 1:
            self.literal = {} if self.literal is None else self.literal
            return self.literal.setdefault(around[0], _Node())
        if any(around):
            self.mixed = {} if self.mixed is None else self.mixed
            return self.mixed.setdefault(around, _Node())
        if self.any is None:
            self.any = _Node()
        return self.any

    def step(self, segment: str, found: list[_Node]) -> None:
        """Append the places that a segment of a request may lead to, the most specific first."""
        if self.literal is not None and (literal := self.literal.get(segment)) is not None:
            found.append(literal)
        if self.mixed is not None:
            found += [one for around, one in self.mixed.items() if _surround(around, segment)]
        if self.any is not None and segment:
            found.append(self.any)


class Document:
    """A document in force: nothing of it changes, but that `answers` fills. `find` tells what it says of a request."""

    __slots__ = (
        "_root",
        "answers",
        "checks",
        "components",
        "digest",
        "notes",
        "openapi",
        "operations",
        "service",
        "title",
        "version",
    )

    def __init__(
        self,
        service: str,
        *,
        title: str = "",
        version: str = "",
        openapi: str = "",
        digest: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        """Begin without operations; `documents.parts` adds them, before anybody else has the document.

        `digest` identifies the bytes that were read; `notes` say what of them was left out.
        """
        self.service = service
        self.title = title
        self.version = version
        self.openapi = openapi
        self.digest = digest
        self.notes = notes
        self.operations: list[Operation] = []
        self.checks: Checks | None = None  # None: no route asks for them
        self.answers: dict[tuple[str, tuple[str, ...]], AnswerCheck | None] = (
            {}
        )  # those that were needed
        self.components: dict[str, str] = {}  # `schemas/orders.Item` → JSON text
        self._root = _Node()

    def add(self, operation: Operation) -> None:
        """Add an operation."""
        node = self._root
        for segment in operation.segments:
            node = node.below(segment)
        node.operations = (*node.operations, operation)
        self.operations.append(operation)

    def pieces(self) -> Generator[None, None, list[object]]:
        """Return what a large document holds much of, so that it can be let go of in slices."""
        held: list[object] = []
        for many in (self.operations, self.components.values(), (self.checks or {}).values()):
            held += many
            yield
        nodes, below = [self._root], [self._root]
        while below:
            node = below.pop()
            found = [*(node.literal or {}).values(), *(node.mixed or {}).values()]
            found += () if node.any is None else (node.any,)
            nodes += found
            below += found
            yield
        # The last one is let go of first. That has to be the root: a node that goes after those below it takes all of
        # them with it at once.
        return held + nodes[::-1]

    def find(self, method: str, path: str) -> list[Operation]:
        """Return the operations that a request may reach, the most specific first.

        `path` is what the instance gets, decoded, without its base path. More than one is found where literals and
        parameters overlap: FastAPI takes the one that was declared first, and a document does not say which that is.
        """
        nodes = [self._root]
        # Express and ASP.NET Core read `/users/ME` as `/users/me`, whose scopes a request must not go round.
        path = _folded(path.strip("/"))
        for segment in path.split("/") if path else ():
            below: list[_Node] = []
            for node in nodes:
                node.step(segment, below)
            nodes = below
        operations = [one for node in nodes for one in node.operations]
        found = [one for one in operations if one.method == method]
        if method == "HEAD" and not found:
            found = [one for one in operations if one.method == "GET"]  # RFC 9110, 9.3.2
        return found


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else fold(text.encode()).decode()


def _surround(around: tuple[str, ...], segment: str) -> bool:
    """Tell whether a segment is these texts with parameters between them, of one letter or more each."""
    at = len(around[0])
    if not segment.startswith(around[0]):
        return False
    for text in around[1:-1]:
        at = segment.find(text, at + 1)  # the first place leaves most for the others
        if at < 0:
            return False
        at += len(text)
    return segment.endswith(around[-1]) and len(segment) - len(around[-1]) > at
