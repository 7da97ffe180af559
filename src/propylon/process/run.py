"""Start a gateway: bind first, then one worker here or several under a supervisor."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from propylon.assembly.gateway import Gateway
from propylon.assembly.reload import with_listeners_of
from propylon.config.models.endpoints import listeners_of
from propylon.config.models.schema import GatewayConfig, ServerConfig, TlsConfig
from propylon.config.models.syntax import parse_listen
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError
from propylon.process.last_good import LastGood
from propylon.process.server import (
    CannotListen,
    Hooks,
    Others,
    ServerOptions,
    exit_quietly,
    listen,
    serve_sockets,
    tls_context,
)
from propylon.process.shared import share
from propylon.process.supervisor import supervise
from propylon.process.watch import fingerprint
from propylon.stores.shared import Shared

__all__ = ["start", "start_app"]

log = logging.getLogger(__name__)

CANNOT_LISTEN = 1
UNUSABLE = 2
_AUDIT_KEY = 32  # bytes

Build = Callable[[Shared], Gateway]


def start(loaded: Loaded, read: Callable[[], Loaded], *, watch: bool = False) -> int:
    """Run the gateway that `loaded` describes; return the exit status.

    `read` reads it again: for a reload (with `watch`, as soon as the file changes), and for a worker
    that takes a dead one's place.
    """
    # With one worker what was read a moment ago will do, unless a change meanwhile is to be noticed.
    once = loaded.config.server.workers == 1 and not watch

    def build(shared: Shared) -> Gateway:
        last_good = LastGood(loaded, shared.last_good)
        gateway = Gateway(loaded if once else _newest(last_good, read), read, shared=shared)
        gateway.on_reload = last_good.save
        last_good.save(gateway.loaded)
        return gateway

    return _start(loaded, build, watch=watch)


def _newest(last_good: LastGood, read: Callable[[], Loaded]) -> Loaded:
    """Read what is in force now; a file that was broken meanwhile must not keep a worker from starting."""
    try:
        return read()
    except ConfigError as error:
        sys.stderr.write(
            f"{error}\npropylon: a worker goes on with what is in force, without this\n"
        )
        return last_good.load()


def start_app(loaded: Loaded, build: Callable[[], Gateway], *, watch: bool = False) -> int:
    """Run a gateway that a team's module builds (`--app`), where `loaded` says; return the exit status."""

    def merged(found: Loaded) -> Loaded:
        # What the command line said of listening and logging was said after the code.
        said = {"server": loaded.config.server, "log": loaded.config.log}
        return replace(found, config=found.config.model_copy(update=said))

    def built(shared: Shared) -> Gateway:
        gateway = build()
        gateway.join(shared)
        gateway.loaded = merged(gateway.loaded)
        read = gateway.read
        gateway.read = lambda: merged(read())
        return gateway

    return _start(loaded, built, watch=watch)


def _start(loaded: Loaded, build: Build, *, watch: bool) -> int:
    exit_quietly()
    server = loaded.config.server
    try:
        _options(loaded)
        sockets = listen(server.host, server.port)
        others = {name: listen(*parse_listen(name)) for name in listeners_of(loaded.config)}
        shared = share(loaded)
    except CannotListen as error:
        sys.stderr.write(f"propylon: {error}\n")
        return CANNOT_LISTEN
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return UNUSABLE
    opened = _Opened(
        loaded.config, sockets, others, loaded.path if watch else None, os.urandom(_AUDIT_KEY)
    )
    _greet_all(opened)
    with shared:
        return _run(partial(_work, build, opened), opened, shared, server)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the workers inherit: sockets, by the configuration that was read before the fork, and a key that they share."""

    config: GatewayConfig
    sockets: list[socket.socket]
    others: Others
    watched: Path | None
    audit_key: bytes


def _run(
    work: Callable[[Shared, Callable[[], bool]], int],
    opened: _Opened,
    shared: Shared,
    server: ServerConfig,
) -> int:
    """Work in this process, or in as many as there are to be workers."""
    if server.workers == 1:
        return work(shared, _alone)

    def be(place: int, others_go_on: Callable[[], bool]) -> int:
        shared.become(place)
        return work(shared, others_go_on)

    def let_go() -> None:
        for sock in (*opened.sockets, *chain.from_iterable(opened.others.values())):
            sock.close()

    return supervise(be, server.workers, patience=_patience(server), stopping=let_go)


def _alone() -> bool:
    """Tell that no other worker goes on when this one stops."""
    return False


def _patience(server: ServerConfig) -> float:
    return server.drain_delay + server.drain


def _work(build: Build, opened: _Opened, shared: Shared, others_go_on: Callable[[], bool]) -> int:
    watched = opened.watched
    seen = None if watched is None else fingerprint(watched)  # before it is read
    try:
        gateway = build(shared)
        gateway.validate()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return UNUSABLE
    options = _options(gateway.loaded)
    # A worker may have read a newer file than the one by which the sockets were opened.
    gateway.loaded = with_listeners_of(opened.config, gateway.loaded)
    gateway.own_process(opened.audit_key)

    def renew() -> None:
        if options.tls is not None:
            _renew(options.tls, gateway.config.tls)

    def reload() -> None:
        gateway.reload_soon(renew)

    def drain() -> None:
        gateway.drain(replaced=others_go_on())

    hooks = Hooks(drain=drain, reload=reload, watched=watched, seen=seen)
    serve_sockets(gateway.asgi, opened.sockets, options, hooks, opened.others)
    return 0


def _renew(context: ssl.SSLContext, tls: TlsConfig) -> None:
    """Show new connections the certificate that is in the files now."""
    if tls.certificate is None or tls.key is None:
        return
    try:
        newest = tls_context(tls.certificate, tls.key)
    except CannotListen as error:  # half a pair, say: it must not be taken over
        log.error("reload: the old certificate stays: %s", error)  # noqa: TRY400 — in a sentence
        return

    def show(connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = newest

    # Loading it into the old context is not enough: a key of another type would be one more, not another one.
    context.sni_callback = show


def _options(loaded: Loaded) -> ServerOptions:
    config = loaded.config
    tls = None
    if config.tls.certificate is not None and config.tls.key is not None:
        tls = tls_context(config.tls.certificate, config.tls.key)
    return ServerOptions(config.server.drain, config.server.drain_delay, tls)


def _greet_all(opened: _Opened) -> None:
    config = opened.config
    _greet(opened.sockets, config, what=_verifying(config))
    for name, some in opened.others.items():
        _greet(some, config, what=_served_on(name, config))


def _served_on(listener: str, config: GatewayConfig) -> str:
    if listener != config.admin.listen:
        return " for /metrics"
    alone = config.metrics.listen not in (None, listener)
    return " for the endpoints that want admin" + ("" if alone else " and /metrics")


def _greet(sockets: list[socket.socket], config: GatewayConfig, what: str) -> None:
    scheme = "http" if config.tls.certificate is None else "https"
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"propylon: listening on {scheme}://{shown}:{port}{what}\n")


def _verifying(config: GatewayConfig) -> str:
    """Say how many secrets verify tokens. A secret that was wrapped in its file would be more than one."""
    secrets = len(config.auth.jwt.secret or ())
    if not secrets:
        return ""
    return "; 1 secret verifies tokens" if secrets == 1 else f"; {secrets} secrets verify tokens"
