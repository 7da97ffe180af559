"""Change what of a request goes upstream by the values of the request: header templates, the query, names in `rewrite`. Pure.

Rules.

1. A header or a parameter that the operator sets is never the client's: where its text has no value, it is removed, in every
   spelling that some reader takes for it.
2. The rest of the query stays byte for byte, and in its order. Names are compared without escapes, and `;` parts parameters
   as well as `&`: `?x=1;tenant=b` names a tenant to some servers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from propylon.proxy.rewrite import Rewrite
from propylon.proxy.template import Template, Values
from propylon.wire.headers import render
from propylon.wire.lookalikes import without_lookalikes

__all__ = ["Changes", "QueryChanges", "Target", "filled"]

_PARAMETER = re.compile(rb"([&;]?)([^&;]*)")

Lines = tuple[tuple[bytes, Template], ...]
Target = tuple[Rewrite | None, bytes]
"""How the path changes, with all values in their places, and the query, which begins with `?` or is empty."""


def filled(lines: Lines, values: Values) -> bytes:
    """Return the block of header templates; one without a value is left out."""
    made = ((name, template.line(values)) for name, template in lines)
    return render(pair for pair in made if pair[1])


@dataclass(frozen=True, slots=True)
class QueryChanges:
    """What is taken out of the query, by name, and what is put behind the rest: escaped names, and templates."""

    removed: frozenset[bytes]
    added: Lines

    def apply(self, query: bytes, values: Values) -> bytes:
        """Return the query, which begins with `?` or is empty."""
        kept = self._kept(query[1:]) if query else b""
        made = ((name, template.parameter(values)) for name, template in self.added)
        more = [b"%b=%b" % (name, value) for name, value in made if value is not None]
        parts = [kept, *more] if kept else more
        return b"?" + b"&".join(parts) if parts else b""

    def _kept(self, query: bytes) -> bytes:
        if not self.removed:
            return query
        kept = []
        for match in _PARAMETER.finditer(query):
            name = match[2].partition(b"=")[0].replace(b"+", b" ")
            if match[0] and unquote_to_bytes(name) not in self.removed:
                kept.append(match[0])
        joined = b"".join(kept)
        return joined[1:] if joined[:1] in (b"&", b";") and joined[:1] != query[:1] else joined


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What of a route's requests changes by their values.

    `names` are the headers that are set, `reduced`: the client's go, and the gateway's own. `lines` are those that are put
    in their place, or beside others.
    """

    names: frozenset[bytes] = frozenset()
    lines: Lines = ()
    query: QueryChanges | None = None
    fills: bool = False  # names are in the route's `rewrite`

    def block(self, block: bytes, values: Values) -> bytes:
        """Return the finished block with what is set in it."""
        if self.names:
            block = without_lookalikes(block, self.names)
        return block + filled(self.lines, values)

    def target(
        self, rewrite: Rewrite | None, path: bytes, query: bytes, values: Values
    ) -> Target | None:
        """Return how path and query change; None where they do so without values. Raises Forbidden, InvalidRequest."""
        if self.query is not None:
            query = self.query.apply(query, values)
        elif not self.fills:
            return None
        if rewrite is not None and self.fills:
            rewrite = rewrite.filled(path, values)
        return rewrite, query
