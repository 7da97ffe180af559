"""Start a gateway: bind first, then one worker here or several under a supervisor."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from propylon.assembly.counting import redis_of
from propylon.assembly.gateway import Gateway
from propylon.assembly.reload import with_listeners_of
from propylon.config.models.schema import GatewayConfig, ServerConfig, TlsConfig
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError
from propylon.process.certificates import Certificates, certificate_doubts, tls_context
from propylon.process.console import Console, console_of
from propylon.process.files import raise_file_limit
from propylon.process.greeting import greeting
from propylon.process.last_good import LastGood
from propylon.process.server import Hooks, ServerOptions, exit_quietly, serve_sockets
from propylon.process.shared import share
from propylon.process.sockets import CannotListen, Listening, open_listeners
from propylon.process.supervisor import supervise
from propylon.process.watch import Fingerprint, fingerprint
from propylon.stores.shared import Shared
from propylon.wire import native

__all__ = ["start", "start_app"]

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
        console = console_of(last_good.load().config)
        console.refuse(error)
        console.warn("a worker goes on with what is in force, without this")
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
    console = console_of(loaded.config)
    console.take_tracebacks()
    if native.problem:
        console.warn(f"the compiled part is not used, pure Python is: {native.problem}")
    try:
        redis_of(loaded)
        certificates = _certificates(loaded.config.tls)
        for _, doubt in certificate_doubts(loaded.config.tls):
            console.warn(doubt)
        listeners = open_listeners(loaded.config)
    except CannotListen as error:
        console.fail(str(error))
        return CANNOT_LISTEN
    except ConfigError as error:
        console.refuse(error)
        return UNUSABLE
    watched = loaded.path if watch else None
    opened = _Opened(
        loaded.config, listeners, certificates, watched, os.urandom(_AUDIT_KEY), console
    )
    try:
        return _serve(loaded, build, opened)
    except ConfigError as error:
        console.refuse(error)
        return UNUSABLE
    finally:
        for listening in listeners:
            listening.remove()


def _serve(loaded: Loaded, build: Build, opened: _Opened) -> int:
    console = opened.console
    shared = share(loaded, console)
    for line in (*greeting(loaded, opened.listeners, shared.place), *loaded.notes):
        console.say(line)
    console.say(raise_file_limit())
    with shared:
        return _run(partial(_work, build, opened), opened, shared, loaded.config.server)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the workers inherit: sockets, by the configuration that was read before the fork, and a key that they share."""

    config: GatewayConfig
    listeners: list[Listening]
    certificates: Certificates | None
    watched: Path | None
    audit_key: bytes
    console: Console


def _run(
    work: Callable[[Shared, Callable[[], bool]], int],
    opened: _Opened,
    shared: Shared,
    server: ServerConfig,
) -> int:
    """Work in this process, or in as many as there are to be workers."""
    if server.workers == 1:
        return work(shared, _alone)

    _import_for_workers(opened.config)
    # The workers share these pages as long as nobody writes into them, and a collection writes into every object that it looks at.
    gc.collect()
    gc.freeze()

    def be(place: int, others_go_on: Callable[[], bool]) -> int:
        shared.become(place)
        return work(shared, others_go_on)

    def let_go() -> None:
        for listening in opened.listeners:
            listening.close()

    return supervise(
        be,
        server.workers,
        patience=_patience(server),
        stopping=let_go,
        console=opened.console,
    )


def _import_for_workers(config: GatewayConfig) -> None:
    """Import what each worker would import for itself: it takes a second of CPU, in which a replacement serves nobody."""
    if config.auth.verifies:
        import propylon.assembly.accounts  # noqa: PLC0415
        import propylon.compile.authentication  # noqa: F401, PLC0415


def _alone() -> bool:
    """Tell that no other worker goes on when this one stops."""
    return False


def _patience(server: ServerConfig) -> float:
    return server.drain_delay + server.drain


def _work(build: Build, opened: _Opened, shared: Shared, others_go_on: Callable[[], bool]) -> int:
    watched = opened.watched
    # Before they are read.
    seen = None if watched is None else fingerprint(watched, opened.config.include)
    try:
        gateway = build(shared)
        gateway.validate()
    except ConfigError as error:
        opened.console.refuse(error)
        return UNUSABLE
    # A worker may have read a newer file than the one by which the sockets were opened.
    gateway.loaded = with_listeners_of(opened.config, gateway.loaded)
    certificates = _newest_certificates(gateway.config.tls, opened)
    gateway.own_process(opened.audit_key)

    def renew() -> None:
        if certificates is not None:
            certificates.renew(gateway.config.tls)

    def reload() -> None:
        gateway.reload_soon(renew)

    def drain() -> None:
        gateway.drain(replaced=others_go_on())

    def look() -> Fingerprint:
        return None if watched is None else fingerprint(watched, gateway.config.include)

    server = gateway.config.server
    options = ServerOptions(server.drain, server.drain_delay, certificates)
    hooks = Hooks(
        drain,
        reload,
        reopen=gateway.reopen_logs,
        look=None if watched is None else look,
        seen=seen,
    )
    serve_sockets(gateway.asgi, opened.listeners, options, hooks)
    return 0


def _certificates(tls: TlsConfig) -> Certificates | None:
    """Return the certificates that clients see, if there are any. Raises CannotListen."""
    return Certificates(tls_context(tls)) if tls.pairs else None


def _newest_certificates(tls: TlsConfig, opened: _Opened) -> Certificates | None:
    """Return the certificates that are in the files now; if those are broken by now, the ones of the start."""
    try:
        return _certificates(tls) or opened.certificates
    except CannotListen as error:
        opened.console.warn(f"{error}; a worker goes on with the certificates of the start")
        return opened.certificates
