"""Read what a client offers with `Upgrade` (RFC 6455, 4.2.1; RFC 9110, 7.8). Pure.

Facts. After a 101 the bytes on a connection are no HTTP any more. A gateway that believes an offer which it does not
understand, or goes on as a tunnel after a refusal, lets a client send requests to the upstream past all stages
(CVE-2026-2833 in Pingora).
"""

from __future__ import annotations

from propylon.errors import InvalidRequest, UpgradeRequired
from propylon.wire.grammar import OWS, TOKEN, WEBSOCKET_KEY
from propylon.wire.headers import tokens, values
from propylon.wire.message import NO_BODY, Request
from propylon.wire.offer import WEBSOCKET, Handshake, accepted, extension_names

__all__ = ["is_handshake", "offered", "read_handshake", "read_upgrade", "upgrade_required"]

_VERSION = b"13"
_PROTOCOL = b"sec-websocket-protocol"


def offered(request: Request) -> list[bytes]:
    """Return the protocols that the client offers with `Upgrade`, in lower case (RFC 9110, 7.8)."""
    # 7.8: a server must ignore Upgrade in a request of HTTP/1.0, and Connection has to name it.
    return tokens([request.upgrade]) if request.version == 1 else []


def is_handshake(request: Request) -> bool:
    """Tell whether a request that offers a WebSocket asks for one (RFC 6455, 4.1: the method must be GET).

    Raises InvalidRequest where the request has a body.
    """
    # The body would stand between the head and the first frame: nghttpx left it in the connection, to be read as the next
    # request (CVE-2026-58055).
    _check_bodiless(request)
    return request.method == "GET"


def read_handshake(request: Request) -> Handshake:
    """Read the handshake of a WebSocket (RFC 6455, 4.2.1). Raises InvalidRequest, UpgradeRequired."""
    _check_bodiless(request)
    block = request.block
    if len(request.special.get(b"upgrade", ())) != 1:
        # A reader that takes the first line and one that takes the last would disagree.
        msg = "Upgrade stands more than once"
        raise InvalidRequest(msg)
    version = values(block, b"sec-websocket-version")
    if len(version) != 1:
        msg = "A WebSocket handshake has one Sec-WebSocket-Version"
        raise InvalidRequest(msg)
    if version != [_VERSION]:
        # 4.4: the answer names the versions that the server understands.
        msg = "Only version 13 of the WebSocket protocol is understood"
        raise upgrade_required(msg, (b"Sec-WebSocket-Version", _VERSION))
    key = values(block, b"sec-websocket-key")
    if len(key) != 1 or WEBSOCKET_KEY.fullmatch(key[0]) is None:
        msg = "A WebSocket handshake has one Sec-WebSocket-Key of 16 bytes in base64"
        raise InvalidRequest(msg)
    return Handshake(
        WEBSOCKET,
        accepted(key[0]),
        _protocols(values(block, _PROTOCOL)),
        extension_names(values(block, b"sec-websocket-extensions")),
    )


def read_upgrade(request: Request, name: bytes) -> Handshake:
    """Read the offer of another protocol, which the route permits. Raises InvalidRequest."""
    _check_bodiless(request)
    return Handshake(name)


def _check_bodiless(request: Request) -> None:
    if request.length not in (NO_BODY, 0):
        msg = "A request with a body cannot change the protocol"
        raise InvalidRequest(msg)


def _protocols(lines: list[bytes]) -> tuple[bytes, ...]:
    """Return the subprotocols (4.1, point 10): tokens, and no two of them equal. They are case-sensitive."""
    found = tuple(part.strip(OWS) for part in b",".join(lines).split(b",")) if lines else ()
    if len(set(found)) != len(found) or not all(map(TOKEN.fullmatch, found)):
        msg = "Sec-WebSocket-Protocol is no list of different tokens"
        raise InvalidRequest(msg)
    return found


def upgrade_required(message: str, *more: tuple[bytes, bytes]) -> UpgradeRequired:
    """Return the error, with the `Upgrade` that it must have (RFC 9110, 15.5.22), the option beside it (7.8), and `more`."""
    headers = ((b"Upgrade", WEBSOCKET), (b"Connection", b"Upgrade"), *more)
    return UpgradeRequired(message, headers=headers)
