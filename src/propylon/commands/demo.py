"""Show the gateway at work in front of small real services, with curl lines to try."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import yaml

from propylon.assembly import Gateway
from propylon.commands.tryout import running
from propylon.config.load import Loaded
from propylon.config.problems import Places
from propylon.config.schema import GatewayConfig
from propylon.edge.server import (
    CannotListen,
    Hooks,
    ServerOptions,
    exit_quietly,
    listen,
    serve_sockets,
)

__all__ = ["EXAMPLES", "Example", "demo"]

PORT = 8000
_ANY = 0
_HOST = "127.0.0.1"
_CANNOT_LISTEN = 1
_DRAIN = 2.0

_FILE = """\
services:
  echo:
    url: {ECHO}
  orders:
    instances: ["{ORDERS_1}", "{ORDERS_2}"]
  clock:
    url: {CLOCK}
    timeouts: {{first_byte: 1s}}
defaults:
  auth: none
routes:
  - {{path: /echo, service: echo}}
  - {{path: /echo/admin, service: echo, methods: [GET]}}
  - {{path: /orders, service: orders, methods: [GET, POST]}}
  - {{path: /clock, service: clock, strip_prefix: true}}
log: {{format: text}}
"""


@dataclass(frozen=True, slots=True)
class Example:
    """Something to try: the end of a curl line, the status that it gets, and what it shows."""

    arguments: str
    status: int
    shows: str

    def line(self, base: str) -> str:
        """Return the line to copy."""
        return f"curl {self.arguments.format(base=base)}"


EXAMPLES = (
    Example("-i {base}/echo/hello -d 'how are you?'", 200, "the body and the path arrive as sent"),
    Example(
        "-i {base}/echo -H 'X-User-Id: root' -H 'X-Forwarded-For: 6.6.6.6' -H 'Connection: X-Gone' -H 'X-Gone: 1'",
        200,
        "what the service gets: no forged identity, no hop-by-hop header, one true X-Forwarded-For",
    ),
    Example("-i {base}/orders/7", 200, "two instances: ask again, and the other one answers"),
    Example("-i -X DELETE {base}/orders/7", 405, "not allowed here, and Allow says what is"),
    Example("-iN {base}/clock/ticks", 200, "a stream: each line arrives when it is sent"),
    Example("-i {base}/clock/slow", 504, "a service that does not answer within its second"),
    Example(
        "-i --path-as-is {base}/echo/../admin", 400, "a dot segment is refused, not guessed at"
    ),
    Example("-i {base}/echo/%61dmin", 400, "so is a path that reads as another route's"),
    Example("-i {base}/echo/a%2Fb", 200, "and what is safe passes byte for byte"),
    Example("-i {base}/nowhere", 404, "every error of the gateway has this envelope"),
    Example("-i {base}/health", 200, "how the gateway and its services are, from real probes"),
    Example("-i {base}/metrics", 200, "for Prometheus"),
    Example("-i {base}/docs", 200, "the gateway's own API, better in a browser"),
)


def demo(port: int | None) -> int:
    """Run the services and the gateway until told to stop; return the exit status."""
    exit_quietly()
    try:
        sockets = listen(_HOST, PORT if port is None else port)
    except CannotListen as error:
        if port is not None:
            sys.stderr.write(f"propylon: {error}\n")
            return _CANNOT_LISTEN
        sockets = listen(_HOST, _ANY)  # the usual port is somebody else's, and nobody asked for it
    bound = sockets[0].getsockname()[1]
    with running() as addresses:
        gateway = Gateway(_loaded(addresses, bound))
        _greet(f"http://{_HOST}:{bound}", addresses)
        hooks = Hooks(drain=gateway.drain, reload=gateway.reload)
        serve_sockets(gateway.asgi, sockets, ServerOptions(_DRAIN, 0.0), hooks)
    return 0


def _loaded(addresses: dict[str, str], port: int) -> Loaded:
    written = yaml.safe_load(_FILE.format(**addresses))
    written["server"] = {"host": _HOST, "port": port}
    return Loaded(GatewayConfig.model_validate(written), None, Places())


def _greet(base: str, addresses: dict[str, str]) -> None:
    lines = [f"Propylon listens on {base}, in front of:"]
    lines += [f"  {name.lower():<10} {url}" for name, url in addresses.items()]
    lines += ["", "Try, in another terminal:"]
    for example in EXAMPLES:
        lines += ["", f"  # {example.status}: {example.shows}", f"  {example.line(base)}"]
    lines += ["", "Ctrl-C stops everything. What is asked for is logged below.", ""]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
