"""Hold the offer of another protocol in one request, and judge the 101 of the upstream. Pure.

Rules. Nothing becomes a tunnel that both sides have not agreed on: the client offers, and the upstream's answer is a 101
that names the same protocol in `Upgrade`, has the option `upgrade` in `Connection`, proves by Sec-WebSocket-Accept that
it has read the key, and chooses only from what was offered (RFC 6455, 4.1; RFC 9110, 7.8).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from propylon.errors import BadResponse
from propylon.wire.grammar import OWS
from propylon.wire.headers import tokens, values, without

__all__ = ["WEBSOCKET", "Handshake", "Lease", "Revised", "accepted", "extension_names"]

WEBSOCKET = b"websocket"
# RFC 6455, 1.3: what both sides append to the key. No server answers with its digest that does not know the protocol.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_UPGRADE = b"upgrade"
_PROTOCOL = b"sec-websocket-protocol"
_EXTENSIONS = b"sec-websocket-extensions"
_REFUSED = "The upstream's answer to the offer of another protocol is malformed"


class Revised(Protocol):
    """A list of revoked tokens, as far as it tells that it has changed."""

    revision: int  # another number after each change


class Lease(Protocol):
    """What a socket is open by: a token, until it expires or is revoked."""

    @property
    def revocations(self) -> Revised:
        """The list that may come to hold the token."""

    def left(self) -> float:
        """Return the seconds until the token expires; negative after that."""

    def revoked(self) -> bool:
        """Tell whether the token was revoked meanwhile."""

    @property
    def renewed_every(self) -> float:
        """After how many seconds the token has to be verified again; infinity if it need not."""

    async def renew(self) -> None:
        """Verify the token again. Raises AuthError, ServiceUnavailable or RateLimited."""


@dataclass(slots=True)
class Handshake:
    """The offer of another protocol in one request, as far as the gateway passes it on.

    `name` is the protocol in lower case. Of a WebSocket, `protocols` are the subprotocols that the upstream may choose
    from, `extensions` the names of the extensions, and `accept` is the value that proves that it has read the key.
    `chosen` is a subprotocol with which the gateway itself answers, empty if there is none. `token` and `lease` are set by
    `authenticate`, and `release` by what counts open sockets.
    """

    name: bytes
    accept: bytes = b""
    protocols: tuple[bytes, ...] = ()
    extensions: frozenset[bytes] = frozenset()
    chosen: bytes = b""
    token: bytes = field(default=b"", repr=False)
    lease: Lease | None = None
    release: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def is_websocket(self) -> bool:
        """Whether frames can be followed, and closed by a close frame."""
        return self.name == WEBSOCKET

    @property
    def block(self) -> bytes:
        """The lines that make the offer to the upstream. They are for one hop, so the client's own never pass."""
        return b"\r\nConnection: Upgrade\r\nUpgrade: " + self.name

    def offer_protocols(self, block: bytes, protocols: tuple[bytes, ...]) -> bytes:
        """Offer these subprotocols instead; return the block with them."""
        self.protocols = protocols
        block = without(block, (_PROTOCOL,))
        return (
            block + b"\r\nSec-WebSocket-Protocol: " + b", ".join(protocols) if protocols else block
        )

    def check(self, head: bytes) -> None:
        """Check the head of a 101, from its status line to its empty line. Raises BadResponse."""
        block = head[head.find(b"\r\n") : -4]
        if [name.lower() for name in values(block, _UPGRADE)] != [self.name]:
            raise BadResponse(_REFUSED, reason="Upgrade does not name the one protocol asked for")
        if _UPGRADE not in tokens(values(block, b"connection")):
            raise BadResponse(_REFUSED, reason="Connection without the option upgrade")
        if values(block, b"transfer-encoding"):
            raise BadResponse(_REFUSED, reason="Transfer-Encoding in a 101")
        if self.is_websocket:
            self._check_websocket(block)

    def _check_websocket(self, block: bytes) -> None:
        """Check what RFC 6455, 4.1 has a client check. Raises BadResponse."""
        if values(block, b"sec-websocket-accept") != [self.accept]:
            raise BadResponse(_REFUSED, reason="Sec-WebSocket-Accept does not fit the key")
        chosen = values(block, _PROTOCOL)
        if len(chosen) > 1 or not set(chosen) <= set(self.protocols):
            raise BadResponse(_REFUSED, reason="a subprotocol that was not offered")
        if not extension_names(values(block, _EXTENSIONS)) <= self.extensions:
            raise BadResponse(_REFUSED, reason="an extension that was not offered")


def accepted(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept for a key (4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def extension_names(lines: list[bytes]) -> frozenset[bytes]:
    """Return the names of the extensions, without their parameters (9.1)."""
    return frozenset(part.partition(b";")[0].strip(OWS) for part in tokens(lines))
