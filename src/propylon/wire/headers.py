r"""Find, remove and render header lines in raw blocks. Pure.

Facts. A block reaches these functions only after llhttp has accepted it: names are tokens, a colon
follows at once, values hold no CR, LF or NUL, no line is folded. So a search for `\r\nname:` cannot
be fooled by a value, and taking a match out leaves whole lines.

Lookups run on a lower-case copy (`bytes.lower` is 0.2 µs for a browser's head) with case-sensitive
patterns: case-insensitive alternation costs three times that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from propylon.wire.grammar import OWS

__all__ = [
    "MAX_FIELDS",
    "Special",
    "fields",
    "render",
    "take",
    "tokens",
    "values",
    "without",
]

# Values of the headers that mean something to a gateway, by lower-case name.
Special = dict[bytes, list[bytes]]

# Envoy allows 100, Node 2,000; browsers send about 20, long proxy chains about 60.
MAX_FIELDS = 256


def fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """Split a block into (name, value) pairs, in order, names as sent, values trimmed."""
    pairs = []
    for line in block.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        pairs.append((name, value.strip(OWS)))
    return pairs


def render(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Join (name, value) pairs into a block."""
    return b"".join([b"\r\n%b: %b" % pair for pair in pairs])


def values(block: bytes, name: bytes) -> list[bytes]:
    """Return every value of the header with that lower-case name."""
    return [value for key, value in fields(block) if key.lower() == name]


def without(block: bytes, names: Iterable[bytes]) -> bytes:
    """Return the block without the lines that bear one of the lower-case names."""
    # No pattern is made of them: they may come from a client, fifteen thousand at a time.
    wanted = frozenset(names)
    lines = block.split(b"\r\n")
    return b"\r\n".join([line for line in lines if line.partition(b":")[0].lower() not in wanted])


def tokens(lines: Iterable[bytes]) -> list[bytes]:
    """Split comma lists (RFC 9110, 5.6.1) into lower-case elements; empty ones are dropped."""
    joined = b",".join(lines).lower()
    return [stripped for part in joined.split(b",") if (stripped := part.strip(OWS))]


def take(
    block: bytes, pattern: re.Pattern[bytes], kept: frozenset[bytes] = frozenset()
) -> tuple[bytes, Special]:
    """Return the block without the lines that match, and their values by lower-case name.

    A name spelled with `_` is taken out too, and not recorded: it never had a right to a meaning.
    The names in `kept` are recorded and stay where they are.
    """
    special: Special = {}
    pieces = []
    position = 0
    for match in pattern.finditer(block.lower()):
        name, value = match.groups()
        start, end = match.span()
        if b"_" not in name:
            value = block[end - len(value) : end]
            if value[-1:] in OWS:
                value = value.rstrip(OWS)
            if name in special:
                special[name].append(value)
            else:
                special[name] = [value]
        if name not in kept:
            pieces.append(block[position:start])
            position = end
    if not position:
        return block, special
    pieces.append(block[position:])
    return b"".join(pieces), special
