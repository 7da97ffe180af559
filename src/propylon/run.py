"""Start a gateway: bind first, then one worker here or several under a supervisor."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import replace

from propylon.assembly import Gateway
from propylon.config.load import Loaded
from propylon.config.schema import ServerConfig
from propylon.edge.server import (
    CannotListen,
    Hooks,
    ServerOptions,
    exit_quietly,
    listen,
    serve_sockets,
    tls_context,
)
from propylon.edge.supervisor import supervise

__all__ = ["start", "start_own"]

CANNOT_LISTEN = 1


def start(read: Callable[[], Loaded]) -> int:
    """Run the gateway that `read` describes; return the exit status."""
    loaded = read()
    one = loaded.config.server.workers == 1
    # Each of several workers reads the file itself, and so does the one that replaces it.
    return _start(loaded, lambda: Gateway(loaded if one else read()))


def start_own(loaded: Loaded, build: Callable[[], Gateway]) -> int:
    """Run a gateway that somebody else's code builds, where `loaded` says; return the exit status."""

    def built() -> Gateway:
        gateway = build()
        # What the command line said of listening and logging was said after the code.
        config = gateway.config.model_copy(
            update={"server": loaded.config.server, "log": loaded.config.log}
        )
        gateway.loaded = replace(gateway.loaded, config=config)
        return gateway

    return _start(loaded, built)


def _start(loaded: Loaded, build: Callable[[], Gateway]) -> int:
    exit_quietly()
    server = loaded.config.server
    try:
        _options(loaded)
        sockets = listen(server.host, server.port)
    except CannotListen as error:
        sys.stderr.write(f"propylon: {error}\n")
        return CANNOT_LISTEN
    _greet(sockets, secure=loaded.config.tls.certificate is not None)
    if server.workers == 1:
        return _work(build(), sockets)

    def let_go() -> None:
        for sock in sockets:
            sock.close()

    return supervise(
        lambda: _work(build(), sockets),
        server.workers,
        patience=_patience(server),
        stopping=let_go,
    )


def _patience(server: ServerConfig) -> float:
    return server.drain_delay + server.drain


def _work(gateway: Gateway, sockets: list[socket.socket]) -> int:
    hooks = Hooks(drain=gateway.drain, reload=gateway.reload)
    serve_sockets(gateway.asgi, sockets, _options(gateway.loaded), hooks)
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
