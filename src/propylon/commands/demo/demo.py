"""Show the gateway at work in front of small real services, with curl lines to try."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from propylon.assembly.gateway import Gateway
from propylon.commands import user
from propylon.commands.demo.services import running
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import Places
from propylon.process.server import (
    CannotListen,
    Hooks,
    ServerOptions,
    exit_quietly,
    listen,
    serve_sockets,
)
from propylon.stores.users import User

__all__ = ["SECTIONS", "Example", "demo"]

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
  shaky:
    instances: ["{BROKEN}", "{ORDERS_1}"]
  broken:
    url: {BROKEN}
    retry: {{attempts: 1}}
    circuit: {{failure_threshold: 1, min_throughput: 1, recovery_timeout: 10s}}
cors:
  origins: [https://app.example.com]
defaults:
  auth: none
routes:
  - {{path: /echo, service: echo}}
  - {{path: /echo/admin, service: echo, methods: [GET]}}
  - {{path: /private, service: echo, auth: required, scopes: [read]}}
  - {{path: /private/admin, service: echo, auth: required, scopes: [admin]}}
  - {{path: /orders, service: orders, methods: [GET, POST]}}
  - {{path: /clock, service: clock, strip_prefix: true}}
  - {{path: /shaky, service: shaky}}
  - {{path: /broken, service: broken}}
log: {{format: text}}
"""
_HEADER = '"Authorization: Bearer $TOKEN"'
_NAME = "ann"
_USER = User(
    _NAME, email="ann@example.com", scopes=frozenset({"read", "write"}), roles=frozenset({"clerk"})
)


@dataclass(frozen=True, slots=True)
class Example:
    """Something to try: a line for a shell, the status that it gets (0: it shows none), and what for."""

    text: str
    status: int
    shows: str

    def line(self, base: str, password: str) -> str:
        """Return the line to copy."""
        login = f"-d username={_NAME} -d password={password}"
        return self.text.format(base=base, login=login, header=_HEADER)

    @property
    def title(self) -> str:
        """What stands above the line."""
        return f"{self.status}: {self.shows}" if self.status else self.shows


_PROXY = (
    Example(
        "curl -i {base}/echo/hello -d 'how are you?'", 200, "the body and the path arrive as sent"
    ),
    Example(
        "curl -i {base}/echo -H 'X-User-Id: root' -H 'X-Forwarded-For: 6.6.6.6' -H 'Connection: X-Gone' -H 'X-Gone: 1'",
        200,
        "what the service gets: no forged identity, no hop-by-hop header, one true X-Forwarded-For",
    ),
    Example("curl -i {base}/orders/7", 200, "two instances: ask again, and the other one answers"),
    Example("curl -i -X DELETE {base}/orders/7", 405, "not allowed here, and Allow says what is"),
    Example("curl -iN {base}/clock/ticks", 200, "a stream: each line arrives when it is sent"),
    Example(
        "curl -i --path-as-is {base}/echo/../admin", 400, "a dot segment is refused, not guessed at"
    ),
    Example("curl -i {base}/echo/%61dmin", 400, "so is a path that reads as another route's"),
    Example("curl -i {base}/echo/a%2Fb", 200, "and what is safe passes byte for byte"),
)
_TOKENS = (
    Example(
        "curl -i {base}/private", 401, "no token, no entry; WWW-Authenticate says what to bring"
    ),
    Example(
        "curl -i {base}/api/v1/auth/token {login}",
        200,
        "a token for a password, and one to refresh it",
    ),
    Example(
        "TOKEN=$(curl -s {base}/api/v1/auth/token {login}"
        """ | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')""",
        0,
        "another one, kept for the lines below",
    ),
    Example(
        "curl -i {base}/private -H {header}",
        200,
        "who is asking, as the service is told: X-User-Id, X-User-Email, X-User-Roles, X-User-Scopes",
    ),
    Example("curl -i {base}/private/admin -H {header}", 403, "known, but the scope does not reach"),
    Example(
        "curl -i {base}/api/v1/users/me -H {header}", 200, "what the gateway knows about its user"
    ),
    Example(
        "curl -i {base}/api/v1/auth/revoke -H {header} -d token=$TOKEN",
        200,
        "logging out: taken back",
    ),
    Example("curl -i {base}/private -H {header}", 401, "and refused from then on"),
)
_BROWSERS = (
    Example(
        "curl -i -X OPTIONS {base}/private -H 'Origin: https://app.example.com'"
        " -H 'Access-Control-Request-Method: GET'",
        204,
        "a browser's preflight is answered by the gateway, and needs no token",
    ),
    Example(
        "curl -i {base}/echo -H 'X-Privacy-Level: hidden'",
        400,
        "a wish for privacy that cannot be understood is refused, not disregarded",
    ),
)
_FAILURES = (
    Example("curl -i {base}/clock/slow", 504, "a service that does not answer within its second"),
    Example(
        "curl -i {base}/shaky/7",
        200,
        "one of its two instances always fails: the other one is asked, and nobody notices",
    ),
    Example("curl -i {base}/broken", 502, "a service that fails; its answer passes as it is"),
    Example(
        "curl -i {base}/broken", 503, "now its breaker refuses at once; after 10 s a probe may pass"
    ),
    Example("curl -i {base}/nowhere", 404, "every error of the gateway has this envelope"),
)
_OWN = (
    Example("curl -i {base}/health", 200, "how the gateway and its services are, from real probes"),
    Example("curl -i {base}/metrics", 200, "for Prometheus"),
    Example("curl -i {base}/docs", 200, "the gateway's own API, better in a browser"),
)
SECTIONS = (
    ("Requests pass as they are, or not at all", _PROXY),
    ("Who is asking", _TOKENS),
    ("What browsers ask and wish", _BROWSERS),
    ("When a service fails", _FAILURES),
    ("The gateway itself", _OWN),
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
    # A secret that is published would let anybody sign: each run has its own, and so has the user.
    password = secrets.token_urlsafe(9)
    with running() as addresses, TemporaryDirectory(prefix="propylon-demo-") as folder:
        loaded = _loaded(addresses, bound, Path(folder))
        user.add(loaded, _USER, password)
        gateway = Gateway(loaded)
        gateway.own_process()
        _greet(f"http://{_HOST}:{bound}", addresses, password)
        hooks = Hooks(drain=gateway.drain, reload=gateway.reload)
        serve_sockets(gateway.asgi, sockets, ServerOptions(_DRAIN, 0.0), hooks)
    return 0


def _loaded(addresses: dict[str, str], port: int, folder: Path) -> Loaded:
    written = yaml.safe_load(_FILE.format(**addresses))
    written["server"] = {"host": _HOST, "port": port}
    written["auth"] = {
        "jwt": {"secret": secrets.token_urlsafe(48)},
        "tokens": {"database": f"sqlite:///{folder}/users.db"},
    }
    return Loaded(GatewayConfig.model_validate(written), None, Places())


def _greet(base: str, addresses: dict[str, str], password: str) -> None:
    lines = [f"Propylon listens on {base}, in front of:"]
    lines += [f"  {name.lower():<10} {url}" for name, url in addresses.items()]
    lines += [
        "",
        f'Its user "{_NAME}" has the password {password}, until it stops.',
        "",
        "Try, in another terminal:",
    ]
    for title, examples in SECTIONS:
        lines += ["", f"  ## {title}"]
        for example in examples:
            lines += ["", f"  # {example.title}", f"  {example.line(base, password)}"]
    lines += ["", "Ctrl-C stops everything. What is asked for is logged below.", ""]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
