"""Run the gateway in front of small real services, and print curl lines to try."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from propylon.assembly.gateway import Gateway
from propylon.commands import user
from propylon.commands.demo.services import running_services
from propylon.config.models.endpoints import PUBLIC
from propylon.config.models.listeners import Tcp
from propylon.config.models.schema import GatewayConfig
from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import Places
from propylon.process.server import Hooks, ServerOptions, exit_quietly, serve_sockets
from propylon.process.sockets import CannotListen, Listening, Wanted, listen
from propylon.stores.users import User

__all__ = ["SECTIONS", "Example", "demo"]

PORT = 8000
_ANY_PORT = 0
_HOST = "127.0.0.1"
_CANNOT_LISTEN = 1
_DRAIN = 2.0  # seconds
_LINES = "lines-to-try.txt"

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
    """A curl line to try, the status that it gets (0: the line prints none), and what it shows."""

    text: str
    status: int
    shows: str

    def line(self, base: str, password: str) -> str:
        """Return the line to copy into a shell."""
        login = f"-d username={_NAME} -d password={password}"
        return self.text.format(base=base, login=login, header=_HEADER)

    @property
    def title(self) -> str:
        """The comment above the line."""
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
    Example(
        "curl -i {base}/orders/7", 200, "two instances: ask again, and the other instance answers"
    ),
    Example(
        "curl -i -X DELETE {base}/orders/7",
        405,
        "this method is not allowed; Allow lists those that are",
    ),
    Example(
        "curl -iN {base}/clock/ticks", 200, "a stream: each line arrives when the service sends it"
    ),
    Example(
        "curl -i --path-as-is {base}/echo/../admin",
        400,
        "a dot segment is refused: an upstream might resolve it",
    ),
    Example(
        "curl -i {base}/echo/%61dmin",
        400,
        "so is a path that an upstream may read as another route's",
    ),
    Example("curl -i {base}/echo/a%2Fb", 200, "a path that is safe passes byte for byte"),
)
_TOKENS = (
    Example("curl -i {base}/private", 401, "a token is required; WWW-Authenticate says so"),
    Example(
        "curl -i {base}/api/v1/auth/token {login}",
        200,
        "an access token for a password, and a refresh token",
    ),
    Example(
        "TOKEN=$(curl -s {base}/api/v1/auth/token {login}"
        """ | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')""",
        0,
        "an access token, kept in $TOKEN for the lines below",
    ),
    Example(
        "curl -i {base}/private -H {header}",
        200,
        "the service learns who asks: X-User-Id, X-User-Email, X-User-Roles, X-User-Scopes",
    ),
    Example(
        "curl -i {base}/private/admin -H {header}", 403, "the user is known, but lacks the scope"
    ),
    Example(
        "curl -i {base}/api/v1/users/me -H {header}", 200, "what the gateway knows about its user"
    ),
    Example(
        "curl -i {base}/api/v1/auth/revoke -H {header} -d token=$TOKEN",
        200,
        "log out: the token is revoked",
    ),
    Example("curl -i {base}/private -H {header}", 401, "a revoked token is refused"),
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
        "an unknown privacy level is refused, not ignored",
    ),
)
_FAILURES = (
    Example(
        "curl -i {base}/clock/slow", 504, "a service that does not answer within its timeout of 1 s"
    ),
    Example(
        "curl -i {base}/shaky/7",
        200,
        "one of two instances always fails: the gateway asks the other one",
    ),
    Example("curl -i {base}/broken", 502, "a service that fails: its answer passes unchanged"),
    Example(
        "curl -i {base}/broken",
        503,
        "its breaker is open and refuses at once; after 10 s a probe may pass",
    ),
    Example("curl -i {base}/nowhere", 404, "every error of the gateway has this form"),
)
_BUILTIN = (
    Example(
        "curl -i {base}/health", 200, "the health of the gateway and its services, from real probes"
    ),
    Example("curl -i {base}/metrics", 200, "metrics for Prometheus"),
    Example("curl -i {base}/docs", 200, "the gateway's own API; open it in a browser"),
)
SECTIONS = (
    ("Requests pass unchanged, or not at all", _PROXY),
    ("Tokens and users", _TOKENS),
    ("Browsers: CORS and privacy", _BROWSERS),
    ("When a service fails", _FAILURES),
    ("The gateway's own endpoints", _BUILTIN),
)
# Printed at the start: a request that passes, one that is refused, and a failure that the client does not notice.
_FIRST = (_PROXY[0], _TOKENS[0], _FAILURES[1])


def demo(port: int | None) -> int:
    """Run the services and the gateway until a signal stops them; return the exit status."""
    exit_quietly()
    try:
        sockets = listen(_HOST, PORT if port is None else port)
    except CannotListen as error:
        if port is not None:
            sys.stderr.write(f"propylon: {error}\n")
            return _CANNOT_LISTEN
        sockets = listen(_HOST, _ANY_PORT)  # the default port is in use, and the user named no port
    bound = sockets[0].getsockname()[1]
    # Each run makes its own secret and password: a published secret would let any reader sign tokens.
    password = secrets.token_urlsafe(9)
    with running_services() as addresses, TemporaryDirectory(prefix="propylon-demo-") as folder:
        loaded = _loaded(addresses, bound, Path(folder))
        user.add(loaded, _USER, password)
        gateway = Gateway(loaded)
        gateway.own_process()
        _greet(f"http://{_HOST}:{bound}", addresses, password, Path(folder) / _LINES)
        hooks = Hooks(drain=gateway.drain, reload=gateway.reload)
        listener = Listening(Wanted(PUBLIC, Tcp(_HOST, bound)), sockets)
        serve_sockets(gateway.asgi, [listener], ServerOptions(_DRAIN, 0.0), hooks)
    return 0


def _loaded(addresses: dict[str, str], port: int, folder: Path) -> Loaded:
    written = yaml.safe_load(_FILE.format(**addresses))
    written["server"] = {"host": _HOST, "port": port}
    written["auth"] = {
        "jwt": {"secret": secrets.token_urlsafe(48)},
        "tokens": {"database": f"sqlite:///{folder}/users.db"},
    }
    return Loaded(GatewayConfig.model_validate(written), None, Places())


def _greet(base: str, addresses: dict[str, str], password: str, file: Path) -> None:
    """Print what fits on a terminal of 24 lines, and write all the rest into `file`."""
    file.write_text(_all_lines(base, addresses, password), encoding="utf-8")
    lines = [f"Propylon listens on {base}, in front of {len(addresses)} small services."]
    lines += [f'Its user "{_NAME}" has the password {password}, until the demo stops.', ""]
    lines += ["Try, in another terminal:", ""]
    for example in _FIRST:
        lines += [f"  # {example.title}", f"  {example.line(base, password)}"]
    count = sum(len(examples) for _, examples in SECTIONS) - len(_FIRST)
    lines += [
        "",
        f"{count} more lines, about tokens, CORS, retries and breakers:",
        "",
        f"  less {file}",
    ]
    lines += ["", "Ctrl-C stops everything. Each request is logged below.", ""]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _all_lines(base: str, addresses: dict[str, str], password: str) -> str:
    lines = [f"Propylon listens on {base}, in front of:"]
    lines += [f"  {name.lower():<10} {url}" for name, url in addresses.items()]
    lines += ["", f'Its user "{_NAME}" has the password {password}, until the demo stops.']
    for title, examples in SECTIONS:
        lines += ["", f"  ## {title}"]
        for example in examples:
            lines += ["", f"  # {example.title}", f"  {example.line(base, password)}"]
    return "\n".join(lines) + "\n"
