"""The first hour: the README, and every how-to and topic, walked as a reader does who pastes each block.

`console` blocks are run in a shell, in front of a real gateway with a real service behind it. `python` blocks are run in this
process. What cannot be run here stands in EXCUSED, with the reason.
"""

import json
import os
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI, Request
from typer.testing import CliRunner

from propylon.cli.main import app
from tests.support.client import ask
from tests.support.gateway import Gateway, free_port
from tests.support.secrecy import SECRECY
from tests.support.shell import CURL, Said, Shell
from tests.support.tokens import mint
from tests.support.upstream import Upstream
from tests.support.waiting import wait
from tests.support.zygote import ZYGOTE, environment

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?ms)^( *)```(\w+)\n(.*?)^ *```")
_MODULE = "# shop.py\n"
_EMPTY_MODULE = "from propylon import Gateway\ngateway = Gateway.from_file('propylon.yaml')\n"
_FILE = "# propylon.yaml"
PASSWORD = SECRECY.note("correct horse battery")
SECRET = SECRECY.note("hV3-pQ8sZ1nW6xT0yRb4uHd9mCe2gJfA7iLoKq5w")
# What a line begins with that is not run, and why.
EXCUSED = {
    'curl -H "Authorization: Bearer $TOKEN" localhost:8000/api/v1/overview': "it asks an endpoint of the reader's module:"
    " tests/gateway/test_aggregation.py asks such ones",
    "make ": "it is looked up in the Makefile; this very test may be running under it",
    ".ci/run": "it runs this very test; it is there",
    "python tests/fuzz/heads.py": "it takes a minute; .ci/sanitize runs it with fewer heads",
    "propylon --version": "what it prints depends on this machine's compiler; tests/cli has it",
    ". .venv/bin/activate": "the shell has the commands on its PATH already",
    "uvicorn app:app": "the reader's own service, under a server that other tests run",
    "pip install": "it would fetch from the network",
    "docker ": "it needs Docker; deploy/check-image builds and runs the image without it",
    "curl -i http://localhost:8000/livez": "it asks the container",
    "kubectl ": "it needs a cluster; tests/deploy checks the manifests and the chart",
    "helm ": "it needs a cluster; tests/deploy checks the chart",
    "granian ": "it needs Granian, which no test installs",
    "propylon check && kill -HUP": "it takes $PID of the reader's gateway; tests/gateway/reload sends the signal",
    "PROPYLON_STATE_DIR=/run/propylon gunicorn": "it needs gunicorn, and root; tests/gateway/test_portable.py runs such workers",
}
# Lines of which a refusal is what the page is about, or whose ids stand for others.
REFUSED = re.compile(r"…|/revocations/7|/nowhere|%61|refresh_token=")


def blocks(page: Path, *kinds: str) -> list[tuple[str, str]]:
    """The blocks of these kinds, without their indentation."""
    found = []
    for indent, kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind in kinds:
            lines = [line.removeprefix(indent) for line in text.splitlines()]
            found.append((kind, "\n".join(lines) + "\n"))
    return found


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown below it."""
    parts = re.split(r"(?m)^\$ ", text)[1:]
    found = []
    for part in parts:
        command, _, shown = part.partition("\n")
        while command.endswith("\\"):
            more, _, shown = shown.partition("\n")
            command = f"{command[:-1]} {more.strip()}"
        found.append((command, shown))
    return found


def reason(command: str) -> str:
    """Why a command is not run; empty for one that is."""
    return next((why for start, why in EXCUSED.items() if command.startswith(start)), "")


WALKED = [page for page in PAGES if blocks(page, "console")]


class World:
    """A gateway in front of a service, and the commands that ask it."""

    def __init__(self, folder: Path, up: Upstream) -> None:
        self._file = folder / "world.yaml"
        config = self.config(folder, up.port)
        self._file.write_text(yaml.safe_dump(config))
        self.gateway = Gateway("fast", config, folder)
        self.gateway.wait_ready()

    @staticmethod
    def config(folder: Path, port: int) -> dict[str, Any]:
        """What the pages speak of."""
        url = f"http://127.0.0.1:{port}"
        paths = {"orders": "/api/v1/orders", "shop": "/shop", "chat": "/chat"}
        return {
            "auth": {"jwt": {"secret": SECRET},
                     "tokens": {"database": f"sqlite:///{folder}/users.db"}},
            "cors": {"origins": ["https://app.example.com"]},
            "registry": {"allow": ["10.0.0.0/8"]},
            "services": {name: {"url": url} for name in paths},
            "routes": [
                {"name": name, "path": path, "service": name,
                 "auth": "required" if name == "orders" else "none"}
                for name, path in paths.items()
            ],
        }  # fmt: skip

    def command(self, words: list[str], directory: Path) -> tuple[str, int]:
        """Do what `propylon` does; a person who adds a user types the password."""
        if words[:1] == ["run"]:
            return self._run(words, directory)
        before = Path.cwd()
        os.chdir(directory)
        try:
            typed = {"input": f"{PASSWORD}\n"} if words[:2] == ["user", "add"] else {}
            more = ["--password-stdin"] if typed else []
            users = ["--config", str(self._file)] if words[:1] in (["user"], ["token"]) else []
            done = CliRunner().invoke(app, [*words, *more, *users], **typed)
        finally:
            os.chdir(before)
        # What a command substitution takes, and what a person sees.
        return (done.stdout if words[:1] == ["token"] else done.output), done.exit_code

    @staticmethod
    def _run(words: list[str], directory: Path) -> tuple[str, int]:
        """Start it on a port of its own, see that it lives, and end it."""
        port = free_port()
        said = directory / "said"
        args = [sys.executable, "-m", "propylon", *words, "--port", str(port)]
        process = ZYGOTE.start(args, cwd=directory, env=environment(), stdout=said)

        def lives() -> bool:
            assert process.poll() is None, said.read_text()
            try:
                return ask(port, target="/livez").status == 200
            except OSError:
                return False

        try:
            wait(lives)
            process.terminate()
            return said.read_text(), process.wait(30)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The gateway of all pages."""
    if not CURL:
        pytest.skip("no curl to run the lines with")
    with Upstream() as up:
        made = World(tmp_path_factory.mktemp("world"), up)
        yield made
        made.gateway.kill()


@pytest.fixture(scope="module")
def shell(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The shell of all pages."""
    made = Shell(tmp_path_factory.mktemp("shell"), world.command)
    yield made
    made.close()


@pytest.mark.parametrize("page", WALKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_works(
    page: Path, world: World, shell: Shell, tmp_path: Path
) -> None:
    """From top to bottom, in one shell: none fails, and what is shown below a command is what it prints."""
    if "propylon init" not in page.read_text():
        made = World.config(tmp_path, world.gateway.port)
        (tmp_path / "propylon.yaml").write_text(yaml.safe_dump(made))
    modules = [text for _, text in blocks(page, "python") if text.startswith(_MODULE)]
    (tmp_path / "shop.py").write_text("".join(modules) or _EMPTY_MODULE)
    chosen = list(_pasted(page))
    run = [(command, shown) for command, shown in chosen if not reason(command)]
    lines = [_here(command, world.gateway.port) for command, _ in run]
    (tmp_path / ".env").write_text(f"JWT_SECRET_KEY={SECRET}\n")
    environ = {
        "TOKEN": mint(secret=SECRET, scope="read write", sub="ann"),
        # A page may revoke it, so each has its own.
        "ADMIN_TOKEN": mint(secret=SECRET, scope="admin read", sub=f"operator of {page.name}"),
    }
    said = shell.run(lines, tmp_path, environ)
    assert len(said) == len(lines)
    for (_, shown), one in zip(run, said, strict=True):
        assert one.status == 0, one
        if one.line.startswith("curl"):
            _check_answer(one)
        if shown.strip():
            _check_alike(shown, one)
    for command in {command for command, _ in chosen} - {command for command, _ in run}:
        _look_up(command)


def _pasted(page: Path) -> Iterator[tuple[str, str]]:
    """Yield what a reader pastes, in order: commands with what is shown of their output, and the file."""
    for kind, text in blocks(page, "yaml", "console"):
        if kind == "console":
            yield from commands(text)
        elif text.startswith(_FILE):
            yield f"cat > propylon.yaml <<'END'\n{text}END", ""


def _here(command: str, port: int) -> str:
    """The command against the gateway of the test, without comments; curl shows the status."""
    if not command.startswith("cat "):
        command = command.partition("  #")[0]
    command = re.sub(
        r"(?:http://)?(?:127\.0\.0\.1|localhost):8000", f"http://127.0.0.1:{port}", command
    )
    return re.sub(r"^curl ", "curl -sS -w '\\n%{http_code}' ", command)


def _check_answer(said: Said) -> None:
    """A reader who pastes a line of curl gets an answer, and no riddle."""
    status = int(said.output.rsplit("\n", 1)[-1])
    assert status < 400 or REFUSED.search(said.line) or status in (401, 403), said


def _check_alike(shown: str, said: Said) -> None:
    """What a page shows: the same status line and header names, or the same keys of JSON."""
    body = said.output.rsplit("\n", 1)[0]
    if shown.startswith("HTTP/1.1"):
        assert shown.splitlines()[0] == body.splitlines()[0]
        names = {line.partition(":")[0] for line in shown.strip().splitlines()[1:]}
        assert names <= {line.partition(":")[0] for line in body.splitlines()[1:]}
    else:
        expected, found = json.loads(shown), json.loads(body)
        assert type(expected) is type(found)
        if isinstance(expected, dict):
            assert expected.keys() == found.keys(), said


def _look_up(command: str) -> None:
    """What is not run is there at least."""
    if command.startswith("make "):
        target = command.split()[1]
        assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text()), command
    elif command.startswith(".ci/"):
        assert os.access(ROOT / command.split(maxsplit=1)[0], os.X_OK)


def test_no_excuse_is_left_over() -> None:
    """Each reason is for a command that stands on a page."""
    found = [
        command
        for page in WALKED
        for _, text in blocks(page, "console")
        for command, _ in commands(text)
    ]
    starts = {start for start in EXCUSED for command in found if command.startswith(start)}
    assert starts == set(EXCUSED)


# Python

# Its blocks are a project's tests: tests/testing/test_plugin.py runs them as such.
_PROJECT = ROOT / "docs" / "howto" / "testing.md"
PYTHON = [page for page in PAGES if page != _PROJECT and blocks(page, "python")]


@pytest.fixture
def shop_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The module that a page calls shop.py."""
    module = types.ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    return module


@pytest.mark.filterwarnings("ignore:Using `httpx` with")  # Starlette's, of its own TestClient
@pytest.mark.parametrize("page", PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_python_block_runs(
    page: Path,
    shop_module: types.ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The blocks of a page, one after the other in one module, and the tests in them with their fixtures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JWT_SECRET_KEY", SECRET)
    config = World.config(tmp_path, 9)
    config["routes"][0]["scopes"] = ["read"]
    config["routes"][2]["rate_limit"] = [{"name": "tokens-per-day", "rate": "1000/d"}]
    (tmp_path / "propylon.yaml").write_text(yaml.safe_dump(config))
    names: dict[str, Any] = {"app": FastAPI(), "FastAPI": FastAPI, "Request": Request}
    for _, text in blocks(page, "python"):
        first = text.startswith(_MODULE)
        names = names | {"__name__": "shop" if first else "page"}
        exec(compile(text, str(page), "exec"), names)
        if first:
            vars(shop_module).update(names)
    tests = [name for name in names if name.startswith("test_")]
    if tests:
        _run_tests([names[name] for name in tests], names["gateway"])


def _run_tests(tests: list[Callable[..., None]], gateway: Any) -> None:
    """Run tests of a page, with its fixture `client`."""
    from fastapi.testclient import TestClient  # noqa: PLC0415 — it warns when it is imported

    with TestClient(gateway.asgi) as client:
        for test in tests:
            test(*([client] if "client" in test.__code__.co_varnames else []))
