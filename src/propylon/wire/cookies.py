"""Take single cookies out of a block, by their name: those that a client sends, and those that an upstream sets. Pure.

Facts. A client sends all cookies of a site in one line (RFC 6265, 4.2.1), an upstream sets each in a line of its own
(4.1.1). Names are compared with their case. Readers drop the white space around a name, so it is dropped here as well.
"""

from __future__ import annotations

from collections.abc import Container

from propylon.wire.grammar import OWS

__all__ = ["cookie", "only_set_cookies", "without_cookies", "without_set_cookies"]


def cookie(block: bytes, name: bytes) -> bytes | None:
    """Return the value of a cookie in the block of a request, the first of that name; None: there is none."""
    # Found at once where there is none, as for most requests.
    if name not in block:
        return None
    for line in block.split(b"\r\n"):
        header, _, value = line.partition(b":")
        if header.lower() == b"cookie":
            for pair in value.split(b";"):
                if _name(pair) == name:
                    return pair.partition(b"=")[2].strip(OWS)
    return None


def without_cookies(block: bytes, names: Container[bytes]) -> bytes:
    """Return the block of a request without these cookies; a `Cookie` line that held no other one goes with them."""
    lines = block.split(b"\r\n")
    return b"\r\n".join([kept for line in lines if (kept := _without(line, names)) is not None])


def _without(line: bytes, names: Container[bytes]) -> bytes | None:
    header, mark, value = line.partition(b":")
    if header.lower() != b"cookie":
        return line
    pairs = value.split(b";")
    kept = [pair for pair in pairs if _name(pair) not in names]
    if len(kept) == len(pairs):
        return line
    rest = b";".join(kept).strip(b"; \t")
    return b"%b%b %b" % (header, mark, rest) if rest else None


def without_set_cookies(block: bytes, names: Container[bytes]) -> bytes:
    """Return the block of an answer without the `Set-Cookie` lines of these cookies."""
    lines = block.split(b"\r\n")
    return b"\r\n".join([line for line in lines if not _sets(line, names)])


def only_set_cookies(block: bytes, names: Container[bytes]) -> bytes:
    """Return the `Set-Cookie` lines of these cookies, and nothing else of the block of an answer."""
    return b"".join([b"\r\n" + line for line in block.split(b"\r\n") if _sets(line, names)])


def _sets(line: bytes, names: Container[bytes]) -> bool:
    header, _, value = line.partition(b":")
    return header.lower() == b"set-cookie" and _name(value) in names


def _name(pair: bytes) -> bytes:
    return pair.partition(b"=")[0].strip(OWS)
