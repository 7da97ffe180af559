"""MATCH, besides the path: the headers, parameters and cookies by which routes of one place are told apart. Pure.

Facts. Servers do not agree on what a header means that comes twice, or whose name has `_` for `-`; nor on a parameter that
comes twice, on `;` in a query, or on quotes around a cookie. A client that knows which one its service reads could show the
gateway one value and the service another.

Rule. What a route is chosen by has one value, which every server reads alike, or the request is 400. This is asked only of
names that a route of the place is chosen by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote_to_bytes

from propylon.errors import InvalidRequest
from propylon.wire.grammar import OWS
from propylon.wire.headers import fields
from propylon.wire.lookalikes import reduced
from propylon.wire.message import Request

__all__ = ["Condition", "Conditions", "Kind", "Reader"]

Kind = Literal["header", "query", "cookie"]
Sent = Mapping[tuple[Kind, bytes], bytes]
"""What a request has, by kind and name."""

_KINDS: dict[Kind, str] = {"header": "header", "query": "parameter", "cookie": "cookie"}


@dataclass(frozen=True, slots=True)
class Condition:
    """One name that a request must have, with one of the values.

    `name` is in lower case if it is a header's. `exact` are whole values, `prefixes` beginnings of them; `anything`: any
    value will do.
    """

    kind: Kind
    name: bytes
    exact: frozenset[bytes] = frozenset()
    prefixes: tuple[bytes, ...] = ()
    anything: bool = False

    def holds(self, sent: Sent) -> bool:
        """Return whether the request has it."""
        value = sent.get((self.kind, self.name))
        if value is None:
            return False
        return self.anything or value in self.exact or value.startswith(self.prefixes)

    def __str__(self) -> str:
        """Say it in words, for `explain`."""
        texts = [f'"{one.decode()}"' for one in sorted(self.exact)]
        texts += [f'"{one.decode()}*"' for one in self.prefixes]
        values = f" {' or '.join(texts)}" if texts else ""
        return f"the {_KINDS[self.kind]} {self.name.decode()}{values}"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a request must have to get a route: all of these. `rank` says how specific they are; greater is more."""

    every: tuple[Condition, ...]
    rank: tuple[int, ...]

    def holds(self, sent: Sent) -> bool:
        """Return whether the request has all."""
        return all(one.holds(sent) for one in self.every)

    def missing(self, sent: Sent) -> Condition | None:
        """Return the first that the request does not have."""
        return next((one for one in self.every if not one.holds(sent)), None)

    def __str__(self) -> str:
        """Say them in words, for `explain`."""
        return ", and ".join(map(str, self.every))


class Reader:
    """Reads from requests what the routes of one place are chosen by."""

    __slots__ = ("_names",)

    def __init__(self, every: Iterable[Conditions]) -> None:
        """Look for the names of all these conditions."""
        # By kind and `reduced` name: what some server might take for the name.
        self._names: dict[Kind, dict[bytes, set[bytes]]] = {"header": {}, "query": {}, "cookie": {}}
        for conditions in every:
            for one in conditions.every:
                self._names[one.kind].setdefault(reduced(one.name), set()).add(one.name)

    def read(self, request: Request) -> Sent:
        """Return what the request has. Raises InvalidRequest for what servers may read in different ways."""
        sent: dict[tuple[Kind, bytes], bytes] = {}
        for kind, names in self._names.items():
            if not names:
                continue
            for name, value, clear in _READERS[kind](request):
                known = names.get(reduced(name))
                if known is None:
                    continue
                if not clear or name not in known or (kind, name) in sent:
                    raise _ambiguous(kind, name)
                sent[kind, name] = value
        return sent


def _ambiguous(kind: Kind, name: bytes) -> InvalidRequest:
    said = name.decode("ascii", "replace")
    msg = f"The {_KINDS[kind]} {said} can be read in more than one way, and a route is chosen by it"
    return InvalidRequest(msg, details={_KINDS[kind]: said})


# The readers yield name and value, and whether every server reads the value so.


def _headers(request: Request) -> Iterator[tuple[bytes, bytes, bool]]:
    for name, value in fields(request.block):
        yield name.lower(), value, True


def _cookies(request: Request) -> Iterator[tuple[bytes, bytes, bool]]:
    for header, line in fields(request.block):
        if header.lower() != b"cookie":
            continue
        for whole in line.split(b";"):
            # Some servers split at commas, too (RFC 2109), and some take quotes away.
            pieces = whole.split(b",")
            for piece in pieces:
                name, _, value = piece.partition(b"=")
                clear = len(pieces) == 1 and b'"' not in value and b"\\" not in value
                yield unquote_to_bytes(name.strip(OWS)), value.strip(OWS), clear


def _parameters(request: Request) -> Iterator[tuple[bytes, bytes, bool]]:
    for whole in request.query[1:].split(b"&"):
        # To some servers `;` parts parameters, too.
        pieces = whole.split(b";")
        for piece in pieces:
            name, _, value = piece.partition(b"=")
            yield _decoded(name), _decoded(value), len(pieces) == 1


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


_READERS: Mapping[Kind, Callable[[Request], Iterator[tuple[bytes, bytes, bool]]]] = {
    "header": _headers,
    "cookie": _cookies,
    "query": _parameters,
}
