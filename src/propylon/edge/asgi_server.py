"""Know what the ASGI server under the portable edge does by itself: which headers it adds, what it forgets to say.

Facts. ASGI does not tell an app whether its server adds `Date` and `Server`. uvicorn and Hypercorn add them beside those of
the app, so that both would stand twice. uvicorn tells only the last of several pipelined requests that the client has
left; for the others `receive` waits for ever, and `send` writes to a closed transport, which is an error under uvloop.
uvicorn believes X-Forwarded-For and -Proto of any peer on this machine, unless it was started with `--no-proxy-headers`, and
writes what they say over the client's address and scheme. So a client behind a local proxy or tunnel could choose its address.

Strategy. The methods of uvicorn's cycle are the `receive` and `send` that it passes. Middlewares of Starlette wrap `send`,
and leave `receive` as it is. So the cycle is found by `receive`. Any other server is taken to add both headers, as nearly
all of them do.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from propylon.wire.headers import fields
from propylon.wire.message import Response

__all__ = ["AsgiServer", "restore_peer", "start_message"]

_OWN = frozenset({b"date", b"server"})

_SERVER_ERROR = 500
_FIRST_INVALID_STATUS = 600


class AsgiServer:
    """The server of one request, as far as it is known."""

    __slots__ = ("_cycle", "adds")

    def __init__(self, receive: object) -> None:
        """Find uvicorn's cycle by the `receive` that the server has passed."""
        self._cycle: Any = getattr(receive, "__self__", None)
        headers = getattr(self._cycle, "default_headers", None)
        # The names of headers that the server adds: those of an upstream make room, as for all that the gateway sets.
        self.adds = _OWN
        if isinstance(headers, list):
            self.adds = _OWN.intersection(name for name, _ in headers)
        else:
            self._cycle = None

    @property
    def client_is_gone(self) -> bool:
        """Whether the client has left, as far as the gateway can see without `receive`."""
        transport = getattr(self._cycle, "transport", None)
        return transport is not None and bool(transport.is_closing())

    def give_up(self) -> None:
        """Note for uvicorn that the client has left: else it would write an error page to it, and fail."""
        if hasattr(self._cycle, "disconnected"):
            self._cycle.disconnected = True


def restore_peer(scope: MutableMapping[str, Any], receive: object) -> None:
    """Put the peer of the socket back into the scope, and its scheme: `server.trusted_proxies` decides whose word counts.

    Nothing changes under a server whose `receive` does not lead to a transport.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    about = getattr(
        transport, "get_extra_info", None
    )  # uvloop's transports do not inherit asyncio's
    if about is None:
        return
    peer = about("peername")
    # On a Unix socket it is a text, and the scope has no client.
    scope["client"] = peer[:2] if isinstance(peer, tuple) else None
    secure = about("sslcontext") is not None
    if scope["type"] == "http":
        scope["scheme"] = "https" if secure else "http"
    else:
        scope["scheme"] = "wss" if secure else "ws"


def start_message(head: Response, block: bytes, adds: frozenset[bytes]) -> MutableMapping[str, Any]:
    """Return the head as an ASGI message, without what the server adds.

    The header lines of a remembered upstream head are split only once.
    """
    if block.startswith(head.block):
        if head.pairs is None:
            head.pairs = _pairs(head.block)
        headers = [*head.pairs, *_pairs(block[len(head.block) :])]
    else:
        headers = _pairs(block)
    if adds:
        headers = [pair for pair in headers if pair[0] not in adds]
    # uvicorn knows no status above 599; RFC 9110, 15 has a client read such a one as 500.
    status = head.status if head.status < _FIRST_INVALID_STATUS else _SERVER_ERROR
    return {"type": "http.response.start", "status": status, "headers": headers}


def _pairs(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in fields(block)]
