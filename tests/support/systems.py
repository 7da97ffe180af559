"""Start the five systems of `examples/` by the commands of their documents, in front of upstreams that echo.

Each is started from a copy of its directory: so it stands alone, and leaves nothing in the checkout.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import yaml
from typer.testing import CliRunner

from propylon.cli.main import app as propylon
from tests.support.client import Answer, Headers, RawClient, ask, request
from tests.support.gateway import Config, Running, free_port
from tests.support.secrecy import SECRECY
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Arrived, Script, Upstream, ok
from tests.support.zygote import ROOT, ZYGOTE, environment

EXAMPLES = ROOT / "examples"
ORIGIN = "http://shop.example"  # may read the answers, where CORS_ORIGINS says so
# What the documents say after `uvicorn`.
APPS = {
    "tracklore": "app.main:app",
    "guide": "app.main:app",
    "game-library": "gateway.main:app",
    "isaas": "src.main:app",
}
SERVICES = {
    "tracklore": ("user", "auth"),
    "guide": ("users", "products", "orders"),
    "game-library": ("auth", "game", "library"),
    "isaas": ("context", "intent", "prediction", "realtime"),
}
SECRET_NAMES = {"isaas": "SECRET_KEY"}
# What running it leaves behind, and what is somebody's own: a clean checkout has neither.
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", ".*_cache", ".env", ".venv", "venv", "*.db", "*.db-*", ".coverage*"
)
# No case is a race against a breaker that another case has brought near its end.
PATIENT = {"failure_threshold": "1000"}

Variables = Mapping[str, str]


def copy(name: str, folder: Path) -> Path:
    """The directory of an example as a clean checkout has it, in the folder."""
    return Path(shutil.copytree(EXAMPLES / name, folder / name, ignore=_LEFT_OUT))


class _Plain(yaml.SafeLoader):
    """As the gateway reads YAML: `on` is a word."""

    yaml_implicit_resolvers = {  # noqa: RUF012 — as the base class has it
        first: [(tag, form) for tag, form in found if first not in "oO" or not tag.endswith("bool")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _add(file: Path, more: Config) -> None:
    config = yaml.load(file.read_text(), _Plain)
    config["services"] = (config.get("services") or {}) | more.get("services", {})
    config["routes"] = (config.get("routes") or []) + more.get("routes", [])
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def run_code(code: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run Python code in a directory, as `python -c` does, with these variables besides the usual ones."""
    return ZYGOTE.run([sys.executable, "-c", code], cwd=cwd, env=environment(**variables))


def run_tests(name: str, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run the tests of an example in a copy of its directory, as its document says."""
    # In a process that has imported much already: what is asserted there is shown less well, and nothing else.
    quiet = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    args = [sys.executable, "-m", "pytest", *quiet, *options]
    # What it leaves if it is killed, or only collects, is in the folder, too.
    env = environment(TMPDIR=str(folder))
    return ZYGOTE.run(args, cwd=copy(name, folder), env=env, timeout=300)


def key(service: str, *path: str) -> str:
    """The variable that sets a key of a service in the configuration."""
    return "__".join(["PROPYLON_SERVICES", service, *path]).upper()


def circuit(service: str, **keys: object) -> dict[str, str]:
    """Variables for the breaker of a service."""
    return {key(service, "circuit", name): str(value) for name, value in keys.items()}


def once(service: str) -> dict[str, str]:
    """The variable that has nothing tried twice: one request is one request."""
    return {key(service, "retry", "attempts"): "1"}


class System(Running):
    """One of the systems while it runs. `ups` are the upstreams of its services, by name."""

    def __init__(
        self,
        name: str,
        folder: Path,
        variables: Variables | None = None,
        *,
        command: str = "",
        alone: bool = False,
        more: Config | None = None,
        source: str = "",
    ) -> None:
        """Start it with these variables; `command`: by another one, {port} stands for the port.

        It gets its secret and the addresses of its upstreams, unless `alone`: then those variables are all.
        `more`: services and routes that are added to its configuration; `source`: what is added to its program.
        """
        self.name = name
        names = () if alone else SERVICES[name]
        # Sockets may be opened at one of them alone.
        self.ups = {one: Upstream(identified=True, upgrades=one == "realtime") for one in names}
        given = {f"{one.upper()}_SERVICE_URL": self.url(one) for one in self.ups}
        if not alone:
            given[SECRET_NAMES.get(name, "JWT_SECRET_KEY")] = SECRET
        for one in self.ups:
            given |= circuit(one, **PATIENT)
        self.variables = {**given, **(variables or {})}
        for one, value in self.variables.items():
            if "SECRET" in one:
                SECRECY.note(value)
        self.folder = copy(name, folder)
        if more:
            _add(self.folder / "propylon.yaml", more)
        if source:
            program = self.folder / APPS[name].partition(":")[0].replace(".", "/")
            with program.with_suffix(".py").open("a") as file:
                file.write(source)
        port = free_port()
        words = (command or f"uvicorn {APPS[name]} --port {{port}}").format(port=port).split()
        args = [sys.executable, "-m", *words]
        super().__init__(args, port, self.folder, environment(**self.variables), fresh=False)

    def __enter__(self) -> Self:
        self.wait_ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.kill()
        for up in self.ups.values():
            up.close()
        said = self.said()
        for trouble in ("never retrieved", "was destroyed", "never awaited"):
            assert trouble not in said, said[-2000:]

    def url(self, service: str) -> str:
        """Where the upstream of a service listens."""
        return f"http://127.0.0.1:{self.ups[service].port}"

    def reset(self) -> None:
        """Forget what the last case did."""
        for up in self.ups.values():
            up.reset()
            up.fallback = ok

    def check(self) -> None:
        """Whatever reached an upstream was beyond doubt, and the gateway still runs."""
        assert [fault for up in self.ups.values() for fault in up.faults] == []
        assert self.process.poll() is None, self.said()[-2000:]

    def ask(
        self,
        method: str = "GET",
        target: str = "/health",
        headers: Headers = (),
        body: bytes = b"",
        **more: Any,
    ) -> Answer:
        """One request, on a connection of its own, without a token."""
        return ask(self.port, method, target, headers, body, **more)

    def ask_as(
        self,
        subject: str,
        method: str = "GET",
        target: str = "/health",
        headers: Headers = (),
        body: bytes = b"",
        **claims: Any,
    ) -> Answer:
        """The same, with a good token of somebody."""
        return self.ask(method, target, [*authorized(subject, **claims), *headers], body)

    def add_user(self, name: str, password: str, *options: str) -> None:
        """Add a user by the command, in the directory of the system."""
        SECRECY.note(password)
        with contextlib.chdir(self.folder):
            arguments = ["user", "add", name, "--password-stdin", *options]
            done = CliRunner().invoke(propylon, arguments, input=password, env=self.variables)
        assert done.exit_code == 0, done.output

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `propylon` with these arguments in the directory of the system."""
        args = [sys.executable, "-m", "propylon", *arguments]
        return ZYGOTE.run(args, cwd=self.folder, env=environment(**self.variables))

    def on(self, service: str, path: str, script: Script) -> None:
        """Have the upstream of a service do that for a path."""
        self.ups[service].on(path, script)

    def of(self, service: str, answer: Answer) -> Arrived:
        """What the upstream of a service got for that answer."""
        return self.ups[service].of(answer)

    def hits(self) -> dict[str, int]:
        """How many requests each upstream has got, those of probes left out."""
        return {
            name: sum(not one.target.startswith(b"/health") for one in up.requests)
            for name, up in self.ups.items()
        }

    def hit(self) -> dict[str, int]:
        """The same, only of upstreams that got any."""
        return {name: count for name, count in self.hits().items() if count}

    def errors(self, answer: Answer) -> list[dict[str, Any]]:
        """Every line of the log at the level error, or above, that belongs to the answer."""
        self.record(answer)
        lines = self.lines(answer.get("x-request-id") or "?")
        return [line for line in lines if line["level"] in {"error", "critical"}]


class Systems:
    """Systems that the cases of a session share: started when first asked for, ended with it."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._stack = contextlib.ExitStack()
        self._kept: dict[str, System] = {}

    def start(self, name: str, variables: Variables | None = None, **more: Any) -> System:
        """Start one more, not yet waited for."""
        folder = self._factory.mktemp(name)
        return System(name, folder, variables, **more)

    def keep(
        self, label: str, name: str, variables: Variables | None = None, **more: Any
    ) -> System:
        """The one of that label; as if nobody had used it before."""
        if label not in self._kept:
            self._kept[label] = self._stack.enter_context(self.start(name, variables, **more))
        kept = self._kept[label]
        kept.reset()
        return kept

    def check(self) -> None:
        """Look at all of them after a case."""
        for one in self._kept.values():
            one.check()

    def close(self) -> None:
        """End them."""
        self._stack.close()


@contextlib.contextmanager
def from_address(port: int, source: str) -> Iterator[RawClient]:
    """A client with that address of this machine."""
    sock = socket.create_connection(("127.0.0.1", port), 20, source_address=(source, 0))
    with RawClient.over(sock) as client:
        yield client


def ask_from(
    source: str, port: int, method: str, target: str, headers: Headers = (), body: bytes = b""
) -> Answer:
    """One request from that address of this machine."""
    with from_address(port, source) as client:
        return client.send(request(method, target, headers, body)).read(method)


def is_envelope(answer: Answer, code: str) -> bool:
    """Whether the body is the gateway's own error, with exactly its keys."""
    said = answer.json()
    error = said["error"]
    assert said.keys() == {"error", "request_id"}
    assert error.keys() == {"code", "message", "details"}
    assert said["request_id"] == answer.get("x-request-id")
    assert isinstance(error["message"], str)
    assert isinstance(error["details"], dict)
    return bool(error["code"] == code)
