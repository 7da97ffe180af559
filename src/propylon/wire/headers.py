r"""Find, remove and render header lines in raw blocks. Pure.

Facts. A block reaches these functions after llhttp has accepted it: names are tokens, a colon follows at once, values
hold no CR, LF or NUL, no line is folded. So no value can look like the beginning of a line (`\r\nname:`), and a block
without one of its matches still consists of whole lines.

Rules. The lines that stay are passed on byte for byte, in their order and with their spelling. Nothing is merged:
two `Set-Cookie` lines joined by a comma are one broken cookie (RFC 9110, 5.3).

Strategy. No dict of headers is made: most requests need three of twenty headers. The lookup runs on a lower-case copy
(`bytes.lower` takes 0.2 µs for a browser's head) with case-sensitive patterns; an alternation that ignores case
takes three times as long.
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

# Values of the headers that mean something to a gateway, by lower-case name, in the order of the
# lines.
Special = dict[bytes, list[bytes]]

# Envoy and Apache allow 100 header fields, HAProxy 101, Node 2,000; browsers send about 20, long
# proxy chains about 60. Without a bound, a head of 64 KiB may have 16,000 fields, and everything
# that looks at each of them is an attack.
MAX_FIELDS = 256


def fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """Split a block into (name, value) pairs: in order, names as sent, values without OWS (RFC 9110, 5.5)."""
    pairs = []
    for line in block.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        pairs.append((name, value.strip(OWS)))
    return pairs


def render(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Join (name, value) pairs into a block; the caller has checked both against `grammar`."""
    return b"".join([b"\r\n%b: %b" % pair for pair in pairs])


def values(block: bytes, name: bytes) -> list[bytes]:
    """Return the value of each line that has this name, which is given in lower case."""
    return [value for key, value in fields(block) if key.lower() == name]


def without(block: bytes, names: Iterable[bytes]) -> bytes:
    """Return the block without the lines that have one of these names, which are given in lower case."""
    # No pattern is made of the names: a client may list fifteen thousand of them in `Connection`,
    # and patterns are slow to compile and stay in the cache of `re`.
    wanted = frozenset(names)
    lines = block.split(b"\r\n")
    return b"\r\n".join([line for line in lines if line.partition(b":")[0].lower() not in wanted])


def tokens(lines: Iterable[bytes]) -> list[bytes]:
    """Split comma lists (RFC 9110, 5.6.1) into their elements, in lower case and without empty ones.

    5.6.1.2: a recipient must ignore a reasonable number of empty elements.
    """
    joined = b",".join(lines).lower()
    return [stripped for part in joined.split(b",") if (stripped := part.strip(OWS))]


def take(
    block: bytes, pattern: re.Pattern[bytes], kept: frozenset[bytes] = frozenset()
) -> tuple[bytes, Special]:
    """Return the block without the lines that match `pattern`, and the values of these by lower-case name.

    The lines whose names are in `kept` stay in the block, and their values are returned, too. The first group of the
    pattern is the name, the second, with which it ends, the value; a line for which there is no name is removed.
    """
    special: Special = {}
    pieces = []
    position = 0
    for match in pattern.finditer(block.lower()):
        name = match[1]
        begin, end = match.span(2)
        # A lookalike (see `lookalikes`) is removed, and its value counts for nothing.
        if name is not None:
            value = block[begin:end].rstrip(OWS)
            if name in special:
                special[name].append(value)
            else:
                special[name] = [value]
        if name not in kept:
            pieces.append(block[position : match.start()])
            position = end
    if not position:
        return block, special
    pieces.append(block[position:])
    return b"".join(pieces), special
