"""Read the header of the PROXY protocol, versions 1 and 2, that a load balancer sends before anything else. Pure.

Facts. The specification is HAProxy's `doc/proxy-protocol.txt`. Version 1 is one line of text of at most 107 bytes.
Version 2 is 16 bytes, and then as many as they say: addresses, and after them TLVs. The client's bytes follow at once,
and may be those of a TLS handshake.

Rules.

1. The reader never takes a byte behind the header. It is shown what waits in the socket, and says how much of it to
   take.
2. It keeps at most 107 bytes of version 1, and 52 of version 2. TLVs are skipped as they come, and never kept.
3. A header in which nothing can be doubted is accepted; anything else is refused, and the connection with it.
4. `LOCAL`, `UNKNOWN` and families without an IP address say nothing of a client: the peer itself is the client
   (specification, 2.2; nginx does the same).
"""

from __future__ import annotations

import re
import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from propylon.wire.grammar import read_port

__all__ = ["MAX_WAITING", "ProxyHeader", "ProxyHeaderError"]

MAX_WAITING = 4096
"""How many waiting bytes are worth showing to `feed` at once."""

_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16  # the signature, then version and command, family and transport, length
_V1_START = b"PROXY "
# Specification, 2.1: the longest line, with two full IPv6 addresses, has 107 bytes, CRLF included.
_V1_LONGEST = 107
_V1_LINE = re.compile(
    rb"PROXY (?:(UNKNOWN)(?: [^\r\n]*)?|TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]+) ([0-9]+))\r\n"
)
_LOCAL, _PROXY = 0, 1
# Family and transport in one byte: TCP over IPv4, TCP over IPv6; with the size of their addresses and ports.
_FAMILIES = {0x11: (IPv4Address, 4, 12), 0x21: (IPv6Address, 16, 36)}


class ProxyHeaderError(ValueError):
    """The connection does not begin with a header of the PROXY protocol; the message says why."""


class ProxyHeader:
    """The header of one connection, while it arrives. `source` is the client's address; None: the peer is the client."""

    __slots__ = ("_kept", "_skip", "done", "source")

    def __init__(self) -> None:
        self.done = False
        self.source: str | None = None
        self._kept = bytearray()
        self._skip = 0  # bytes of the TLVs that are still to come

    def feed(self, waiting: bytes) -> int:
        """Look at the bytes that wait in the socket; return how many of them belong to the header.

        Raises ProxyHeaderError for bytes that cannot be, or become, a header.
        """
        taken = 0
        while not self.done and taken < len(waiting):
            taken += self._take(waiting[taken:])
        return taken

    def _take(self, waiting: bytes) -> int:
        if self._skip:
            skipped = min(self._skip, len(waiting))
            self._skip -= skipped
            self.done = not self._skip
            return skipped
        start = bytes(self._kept[:1]) or waiting[:1]
        return self._take_v1(waiting) if start == b"P" else self._take_v2(waiting)

    # Version 1: a line of text

    def _take_v1(self, waiting: bytes) -> int:
        before = len(self._kept)
        # The line feed may be the first byte that waits: its CR was taken before.
        self._kept += waiting[: _V1_LONGEST - before]
        end = self._kept.find(b"\n")
        if end < 0:
            if len(self._kept) == _V1_LONGEST:
                msg = "the line of version 1 does not end"
                raise ProxyHeaderError(msg)
            _check_start(self._kept, _V1_START)
            return len(self._kept) - before
        del self._kept[end + 1 :]
        self.source = _v1_source(bytes(self._kept))
        self.done = True
        return len(self._kept) - before

    # Version 2: binary

    def _take_v2(self, waiting: bytes) -> int:
        before = len(self._kept)
        self._kept += waiting[: self._wanted() - before]
        _check_start(self._kept, _V2_SIGNATURE)
        if len(self._kept) == self._wanted():  # the fixed part has come, and what it asks for
            self._end_v2()
        return len(self._kept) - before

    def _wanted(self) -> int:
        """Return the size of what is to be kept: the fixed part, and the addresses once their size is known."""
        if len(self._kept) < _V2_FIXED:
            return _V2_FIXED
        return _V2_FIXED + _v2_addresses(self._kept)

    def _end_v2(self) -> None:
        length: int = struct.unpack_from("!H", self._kept, 14)[0]
        kept = len(self._kept) - _V2_FIXED
        if kept:
            self.source = _v2_source(self._kept)
        self._skip = length - kept
        self.done = not self._skip


def _check_start(kept: bytearray, start: bytes) -> None:
    if not start.startswith(kept[: len(start)]):
        msg = "the connection does not begin with a header of the PROXY protocol"
        raise ProxyHeaderError(msg)


def _v1_source(line: bytes) -> str | None:
    match = _V1_LINE.fullmatch(line)
    if match is None:
        msg = "the line of version 1 is malformed"
        raise ProxyHeaderError(msg)
    unknown, family, *rest = match.groups()
    if unknown:
        return None
    source, destination, *ports = (part.decode("ascii") for part in rest)
    kind = IPv4Address if family == b"4" else IPv6Address
    try:
        address = str(kind(source))
        kind(destination)
    except AddressValueError as error:
        msg = "the line of version 1 holds no address of its family"
        raise ProxyHeaderError(msg) from error
    # Specification, 2.1: no leading zeros.
    if any(read_port(port) is None or str(read_port(port)) != port for port in ports):
        msg = "the line of version 1 holds no port"
        raise ProxyHeaderError(msg)
    return address


def _v2_addresses(kept: bytearray) -> int:
    """Return how many bytes of addresses follow the fixed part; 0 where they are skipped. Raises ProxyHeaderError."""
    version, command = kept[12] >> 4, kept[12] & 0x0F
    if version != 2 or command not in {_LOCAL, _PROXY}:
        msg = "the version or the command of version 2 is unknown"
        raise ProxyHeaderError(msg)
    family = _FAMILIES.get(kept[13])
    if command == _LOCAL or family is None:
        return 0
    size = family[2]
    length: int = struct.unpack_from("!H", kept, 14)[0]
    if length < size:
        msg = "the header of version 2 is too short for its addresses"
        raise ProxyHeaderError(msg)
    return size


def _v2_source(kept: bytearray) -> str:
    kind, size, _ = _FAMILIES[kept[13]]
    return str(kind(bytes(kept[_V2_FIXED : _V2_FIXED + size])))
