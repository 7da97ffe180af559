"""Serve a gateway in a worker of Gunicorn: `gunicorn -k propylon.process.gunicorn.GatewayWorker propylon.main:app`.

Gunicorn's master opens the sockets, forks the workers and replaces them; SIGHUP has it start new workers, which read the
configuration anew, and stop the old ones. Everything else is as under `propylon run`: the fast edge, the way to stop,
a reload of one worker by SIGHUP. What the master cannot hand over is refused when the worker starts, not ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any, NoReturn

# Not among our dependencies: whoever names this class to Gunicorn has it.
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from propylon.assembly.gateway import Gateway
from propylon.config.models.certificates import TlsConfig
from propylon.config.models.endpoints import PUBLIC
from propylon.config.models.listeners import Address, Tcp, UnixPath
from propylon.config.reading.problems import ConfigError
from propylon.process.certificates import Certificates, tls_context
from propylon.process.server import Hooks, ServerOptions, exit_quietly, serve_sockets
from propylon.process.sockets import CannotListen, Listening, Wanted

__all__ = ["GatewayWorker"]

# Seconds between the two signals of a quick stop: two at once would count as one.
_MOMENT = 0.2


class GatewayWorker(Worker):  # type: ignore[misc]  # Gunicorn has no types
    """A worker that serves the gateway on the fast edge."""

    def init_signals(self) -> None:
        """Leave the signals to our server, but for two of Gunicorn's own."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        exit_quietly()  # until the loop takes them over
        signal.signal(signal.SIGQUIT, self.handle_quit)
        signal.signal(signal.SIGUSR1, self.handle_usr1)  # reopen the log files
        signal.siginterrupt(signal.SIGUSR1, False)

    def handle_quit(self, _number: int, _frame: FrameType | None) -> None:
        """Obey the master's quick stop: as for a SIGTERM, and a second one a moment later, which cuts what is in flight.

        To leave from here, as other workers do, would raise SystemExit in the midst of the loop's callbacks.
        """
        self.cfg.worker_int(self)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Timer(_MOMENT, os.kill, (os.getpid(), signal.SIGTERM)).start()

    def run(self) -> None:
        """Serve until the master says stop."""
        gateway = getattr(self.wsgi, "gateway", None)
        if not isinstance(gateway, Gateway):
            _refuse("the application is no gateway; name propylon.main:app, or Gateway.asgi")
        if problem := _unusable(self.cfg):
            _refuse(problem)
        try:
            gateway.validate()
            certificates = _certificates(self.cfg)
        except (ConfigError, CannotListen) as error:
            _refuse(str(error))
        options = ServerOptions(float(self.cfg.graceful_timeout), 0.0, certificates)
        hooks = Hooks(
            # The master goes on when it stops one worker, and starts another in its place.
            drain=partial(gateway.drain, replaced=True),
            reload=gateway.reload,
            reopen=partial(self._reopen, gateway),
            beat=self._beat,
        )
        listeners = [*_listeners(self.sockets, tls=certificates is not None)]
        serve_sockets(gateway.asgi, listeners, options, hooks)

    def _reopen(self, gateway: Gateway) -> None:
        """Open the log files anew: Gunicorn's own, and the gateway's."""
        self.log.reopen_files()
        gateway.reopen_logs()

    def _beat(self) -> None:
        """Tell the master that the loop runs; stop when the master has gone."""
        self.notify()
        if os.getppid() != self.ppid:
            os.kill(os.getpid(), signal.SIGTERM)


def _listeners(sockets: list[Any], *, tls: bool) -> Iterator[Listening]:
    for one in sockets:
        sock = getattr(one, "sock", one)  # Gunicorn wraps those that it has opened
        name = sock.getsockname()
        address: Address = Tcp(*name[:2]) if isinstance(name, tuple) else UnixPath(str(name))
        yield Listening(Wanted(PUBLIC, address, tls=tls), [sock])


def _certificates(settings: Any) -> Certificates | None:
    """Return the certificate of `--certfile` and `--keyfile`. Raises CannotListen."""
    if not settings.is_ssl:
        return None
    tls = TlsConfig(certificate=settings.certfile, key=settings.keyfile or settings.certfile)
    return Certificates(tls_context(tls))


def _unusable(settings: Any) -> str:
    """Say which of Gunicorn's options this worker cannot obey."""
    if settings.max_requests:
        return "max_requests is not supported: the gateway's memory does not grow; leave it out"
    if settings.is_ssl and settings.ca_certs:
        return "ca_certs is not supported: clients' certificates are for `propylon run`, by tls.clients"
    return ""


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"propylon: {message}\n")
    # With this status the master ends, and starts no further worker.
    sys.exit(Arbiter.APP_LOAD_ERROR)
