"""Start a gateway: bind first, then one worker here or several under a supervisor."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

from propylon.assembly import Gateway
from propylon.config.load import Loaded
from propylon.edge.server import (
    CannotListen,
    Hooks,
    ServerOptions,
    listen,
    serve_sockets,
    tls_context,
)
from propylon.edge.supervisor import supervise

__all__ = ["start"]

CANNOT_LISTEN = 1


def start(read: Callable[[], Loaded]) -> int:
    """Run the gateway that `read` describes; return the exit status."""
    loaded = read()
    server = loaded.config.server
    try:
        _options(loaded)
        sockets = listen(server.host, server.port)
    except CannotListen as error:
        sys.stderr.write(f"propylon: {error}\n")
        return CANNOT_LISTEN
    _greet(sockets, secure=loaded.config.tls.certificate is not None)
    if server.workers == 1:
        return _work(loaded, sockets)
    return supervise(
        lambda: _work(read(), sockets), server.workers, patience=server.drain_delay + server.drain
    )


def _work(loaded: Loaded, sockets: list[socket.socket]) -> int:
    gateway = Gateway(loaded)
    hooks = Hooks(drain=gateway.drain, reload=gateway.reload)
    serve_sockets(gateway.asgi, sockets, _options(loaded), hooks)
    return 0


def _options(loaded: Loaded) -> ServerOptions:
    config = loaded.config
    tls = None
    if config.tls.certificate is not None and config.tls.key is not None:
        tls = tls_context(config.tls.certificate, config.tls.key)
    return ServerOptions(config.server.drain, config.server.drain_delay, tls)


def _greet(sockets: list[socket.socket], *, secure: bool) -> None:
    scheme = "https" if secure else "http"
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"propylon: listening on {scheme}://{shown}:{port}\n")
