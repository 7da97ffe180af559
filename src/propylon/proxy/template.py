"""Read templates, texts with names in braces such as `{claim.tenant}`, and fill them in. Pure.

Facts. What a name stands for comes from the client as a rule: a header, a parameter, a claim that a user may have chosen. A
template puts it where somebody else's word is expected.

Rules.

1. A value never ends its line, and never becomes a second header: a line that is no field value (RFC 9110, 5.5) is not sent.
2. A name without a value makes the whole text empty. Half a text, such as `Bearer `, would mean something else.
3. In a query and in a path a value is one value, and one segment: what could end it is escaped.
4. `{{` and `}}` stand for a brace, as in Python's `str.format`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from propylon.wire.grammar import FIELD_VALUE

__all__ = ["BARE", "OF_CALLER", "Name", "Template", "Values", "parse"]

# Names that stand alone, and those that say whose value they are: `{claim.tenant}`.
BARE = (
    "request_id",
    "trace_id",
    "client_ip",
    "user",
    "host",
    "scheme",
    "method",
    "path",
    "route",
    "service",
)
_FAMILIES = ("claim", "path", "header", "query")
# What may change the answer of an upstream, and is not in the key of a cache by itself: a cache may leave the caller or a
# parameter out. The ids and the address are in no key: upstreams are told of them in any case.
OF_CALLER = frozenset({"claim", "user", "header", "query"})
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[^{}]+|[{}]")
# Bytes. Many servers take 8 KiB of header lines, and one text must not use them up.
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Name:
    """A name in a template: `{kind}`, or `{kind.of}`. `at` is the number of the segment of the path that `{path.of}` names."""

    kind: str
    of: str = ""
    at: int = -1

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{{{self.kind}.{self.of}}}" if self.of else f"{{{self.kind}}}"


class Values(Protocol):
    """What the names stand for, for one request."""

    def sent(self, name: Name) -> bytes:
        """Return the value as a header has it; empty if there is none. That of a path or a query is escaped as it was sent."""

    def plain(self, name: Name) -> bytes:
        """Return the value without escapes; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text with names in it."""

    pieces: tuple[bytes | Name, ...]

    @property
    def names(self) -> tuple[Name, ...]:
        """The names in it, in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Name))

    @property
    def text(self) -> bytes:
        """What is written, where no name is in it."""
        return b"".join([piece for piece in self.pieces if isinstance(piece, bytes)])

    def bound(self, places: Mapping[str, int]) -> Template:
        """Return the template with the numbers of the segments that the path of its route has, by their names."""
        pieces = [
            (
                Name("path", piece.of, places[piece.of])
                if isinstance(piece, Name) and piece.kind == "path" and piece.of
                else piece
            )
            for piece in self.pieces
        ]
        return Template(tuple(pieces))

    def line(self, values: Values) -> bytes:
        """Return the value of a header; empty where a name has no value, or the whole could not be sent."""
        made = []
        for piece in self.pieces:
            part = values.sent(piece) if isinstance(piece, Name) else piece
            if not part:
                return b""
            made.append(part)
        line = b"".join(made)
        return line if len(line) <= _LONGEST and FIELD_VALUE.fullmatch(line) else b""

    def parameter(self, values: Values) -> bytes | None:
        """Return the value of a parameter of a query, escaped; None where a name has no value."""
        made = []
        for piece in self.pieces:
            part = values.plain(piece) if isinstance(piece, Name) else piece
            if not part:
                return None
            made.append(quote(part, safe="").encode("ascii"))
        value = b"".join(made)
        return value if len(value) <= _LONGEST else None


def parse(text: str) -> Template:
    """Read a template. Raises ValueError for a brace without its other half, and for an unknown name."""
    pieces: list[bytes | Name] = []
    literal = b""
    for match in _PART.finditer(text):
        part = match[0]
        if match[1] is not None:
            pieces += [literal, _name(match[1])] if literal else [_name(match[1])]
            literal = b""
        elif part in {"{", "}"}:
            msg = f"has a {part} without its other half; write {part * 2} for a brace"
            raise ValueError(msg)
        else:
            literal += (part[0] if part in {"{{", "}}"} else part).encode("utf-8")
    return Template((*pieces, literal) if literal else tuple(pieces))


def _name(text: str) -> Name:
    kind, dot, of = text.partition(".")
    if text in BARE or (kind in _FAMILIES and dot and of):
        return Name(kind, of)
    known = ", ".join(f"{{{name}}}" for name in BARE)
    families = ", ".join(f"{{{family}.NAME}}" for family in _FAMILIES)
    msg = (
        f"has {{{text}}}, which stands for nothing; write one of {known}, {families},"
        " or {{ and }} for braces that are sent"
    )
    raise ValueError(msg)
