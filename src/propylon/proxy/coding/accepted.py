"""Choose the coding that a client wants of those that the operator offers (RFC 9110, 12.5.3). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from propylon.wire.grammar import OWS

__all__ = ["Chooser", "chosen"]

# 12.4.2: a weight, with three digits at most.
_WEIGHT = re.compile(rb"[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*")
_FIELD = re.compile(rb"\r\n[Aa][Cc][Cc][Ee][Pp][Tt]-[Ee][Nn][Cc][Oo][Dd][Ii][Nn][Gg]:([^\r]*)")
# 8.4.1.3: recipients should take x-gzip for gzip.
_SAME = {b"x-gzip": b"gzip"}
_REMEMBERED, _LONGEST = 256, 256


def chosen(lines: Iterable[bytes], offered: Sequence[bytes]) -> bytes | None:
    """Return the coding that the client wants most; None: none. Of equal weights the first that is offered counts.

    A client without the field would take any coding, says the RFC. It is an old one as a rule, and gets none.
    """
    weights = _weights(b",".join(lines))
    if not weights:
        return None
    anything = weights.get(b"*", 0.0)
    best, most = None, 0.0
    for coding in offered:
        weight = weights.get(coding, anything)
        if weight > most:
            best, most = coding, weight
    # Who writes identity with a weight of its own may prefer it; who leaves it out takes it, and wants the coding more.
    return None if weights.get(b"identity", 0.0) > most else best


def _weights(value: bytes) -> dict[bytes, float]:
    weights: dict[bytes, float] = {}
    for part in value.lower().split(b","):
        name, mark, _ = part.partition(b";")
        coding = name.strip(OWS)
        if not coding:
            continue
        match = _WEIGHT.fullmatch(part[len(name) :]) if mark else None
        # What is no weight is no wish either.
        weight = 1.0 if not mark else float(match[1]) if match is not None else 0.0
        coding = _SAME.get(coding, coding)
        weights[coding] = max(weight, weights.get(coding, 0.0))
    return weights


class Chooser:
    """Chooses for requests, and remembers what was asked for: browsers always send the same line."""

    __slots__ = ("_known", "_offered")

    def __init__(self, offered: Sequence[bytes]) -> None:
        """Offer these, the best first."""
        self._offered = tuple(offered)
        self._known: dict[bytes, bytes | None] = {}

    def of(self, block: bytes) -> bytes | None:
        """Return the coding that a request wants most; None: none."""
        line = b",".join(_FIELD.findall(block))
        if line in self._known:
            return self._known[line]
        found = chosen((line,), self._offered)
        if len(line) <= _LONGEST:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[line] = found
        return found
