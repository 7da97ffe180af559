"""What running workers share, and what they leave: under `propylon run`, and under a server that is not ours."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.cli.test_run import children, until
from tests.gateway.test_drain import only
from tests.support import gateway as starting
from tests.support.client import Ended, ask
from tests.support.gateway import Config, Gateway, command
from tests.support.tokens import SECRET, authorized, mint
from tests.support.upstream import Upstream, ok
from tests.support.zygote import ZYGOTE, environment

MEMORY = Path("/dev/shm")
SERVICES = "/api/v1/services"
ADMIN = authorized("operator", scope="admin")


class Start(Protocol):
    """Start a gateway."""

    def __call__(self, config: Config, *, code: str = "pass", workers: int = 0) -> Gateway:
        """Return it as soon as it answers.

        `code` is run before `propylon run` is; `workers` are uvicorn's, which then runs the gateway.
        """


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start gateways; they end with the case, whatever became of them."""
    started: list[Gateway] = []

    def run(config: Config, *, code: str = "pass", workers: int = 0) -> Gateway:
        def changed(*of: Any, **_: Any) -> list[str]:
            if workers:
                return [*command(*of), "--workers", str(workers)]
            return [
                sys.executable,
                "-c",
                f"{code}; import propylon.cli.main as c; c.main()",
                *command(*of)[3:],
            ]

        folder = tmp_path / f"gateway-{len(started)}"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(starting, "command", changed)
            started.append(Gateway("portable" if workers else "fast", config, folder))
        started[-1].wait_ready()
        return started[-1]

    yield run
    for one in started:
        one.kill()


@pytest.fixture
def up() -> Iterator[Upstream]:
    """An instance that registers."""
    with Upstream() as upstream:
        upstream.on("/health", ok)
        yield upstream


def configuration(folder: Path, **server: Any) -> Config:
    """A gateway that nothing has registered with yet, with revocations of its own."""
    return {
        "server": {"drain": "5s", **server},
        "auth": {
            "jwt": {"secret": SECRET},
            "tokens": {"database": f"sqlite:///{folder}/tokens.db"},
        },
        "services": {"orders": {}},
        "routes": [{"path": "/orders", "service": "orders"}],
        "registry": {"allow": ["127.0.0.0/8"]},
    }


def places(gateway: Gateway, base: Path = MEMORY) -> list[Path]:
    """The directories that a gateway has made there."""
    return [*base.glob(f"propylon-{gateway.process.pid}-*")]


def statuses(gateway: Gateway, token: str) -> set[int]:
    """What a token gets from the workers: each connection is given to one of them."""
    headers = [("Authorization", f"Bearer {token}")]
    found = set()
    for _ in range(12):
        with contextlib.suppress(OSError, Ended):  # a worker may just have been killed
            found.add(ask(gateway.port, target="/orders", headers=headers).status)
    return found


def alone(gateway: Gateway, pid: int, token: str) -> set[int]:
    """What a token gets from one of the workers."""
    with only(pid, children(gateway.process.pid)):
        return statuses(gateway, token)


def register(gateway: Gateway, up: Upstream) -> None:
    """Have one of the workers told of an instance."""
    body = {"service_name": "orders", "host": "127.0.0.1", "port": up.port}
    headers = [("Content-Type", "application/json"), *ADMIN]
    answer = ask(gateway.port, "POST", SERVICES, headers, json.dumps(body).encode())
    assert answer.status == 201, answer.body


# propylon run


@pytest.mark.skipif(not MEMORY.is_dir(), reason="there is no /dev/shm")
def test_the_directory_lives_as_long_as_the_gateway(start: Start, tmp_path: Path) -> None:
    """It is there while it runs, and gone when it has stopped; its workers are its only children."""
    gateway = start(configuration(tmp_path, workers=2))
    [place] = places(gateway)
    assert place.stat().st_mode & 0o777 == 0o700
    assert len(children(gateway.process.pid)) == 2
    assert len(gateway.pids()) == 3
    assert gateway.stop() == 0
    assert not place.exists()


def test_what_a_killed_gateway_left_goes_with_the_next(start: Start, tmp_path: Path) -> None:
    """Kill -9 of the parent: its workers end, and the next gateway removes its directory."""
    # Not in /dev/shm: there any gateway that another test starts at this moment is the next.
    named = tmp_path / "state"
    config = configuration(tmp_path, workers=2, state_dir=str(named))
    killed = start(config)
    [place] = places(killed, named)
    workers = children(killed.process.pid)
    killed.process.kill()
    killed.process.wait(20)
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert place.exists()
    start(config)
    assert not place.exists()


def test_a_named_directory_stays(start: Start, tmp_path: Path) -> None:
    """It is made if it is missing; what the gateway made in it goes at the stop."""
    named = tmp_path / "state"
    gateway = start(configuration(tmp_path, workers=2, state_dir=str(named)))
    assert len(places(gateway, named)) == 1
    assert places(gateway) == []
    assert gateway.stop() == 0
    assert list(named.iterdir()) == []


def test_a_directory_that_others_may_write_to(tmp_path: Path) -> None:
    """Status 2 and one sentence; nothing listens."""
    tmp_path.chmod(0o777)
    (tmp_path / "propylon.yaml").write_text("server: {port: 0, workers: 2}\n")
    done = ZYGOTE.run(
        [sys.executable, "-m", "propylon", "run", "--log-format", "text"],
        cwd=tmp_path,
        env=environment(PROPYLON_STATE_DIR=str(tmp_path)),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f'PROPYLON_STATE_DIR server.state_dir: others may write into "{tmp_path}"'
    )
    assert done.stderr.count("\n") == 1


def test_a_revocation_is_told(start: Start, tmp_path: Path) -> None:
    """All workers know at once what one of them took back, though none of them looks by itself."""
    code = "import propylon.assembly.accounts as a; a._CATCH_UP = 3600"
    gateway = start(configuration(tmp_path, workers=3), code=code)
    first = mint("ann")
    assert until(lambda: statuses(gateway, first) == {503})  # let in: nothing has registered
    for token in (first, mint("ann"), mint("ann")):
        headers = [
            ("Authorization", f"Bearer {token}"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ]
        answer = ask(
            gateway.port, "POST", "/api/v1/auth/revoke", headers, f"token={token}".encode()
        )
        assert answer.status == 200
        assert until(lambda revoked=token: statuses(gateway, revoked) == {401})  # type: ignore[misc]
    assert gateway.stop() == 0


def test_a_replaced_worker_hears_again(start: Start, tmp_path: Path, up: Upstream) -> None:
    """Kill -9 of one worker after the other: those that take their places know what had registered."""
    gateway = start(configuration(tmp_path, workers=2))
    parent, token = gateway.process.pid, mint("ann")
    register(gateway, up)
    assert until(lambda: statuses(gateway, token) == {200})
    for victim in children(parent):
        os.kill(victim, signal.SIGKILL)
        assert until(lambda gone=victim: gone not in children(parent) and len(children(parent)) == 2)  # type: ignore[misc]
        # The next one is killed only when both know it again.
        assert until(
            lambda: [alone(gateway, pid, token) for pid in children(parent)] == [{200}] * 2
        )
    assert (
        ask(gateway.port, "DELETE", f"{SERVICES}/orders/127.0.0.1:{up.port}", ADMIN).status == 204
    )
    assert until(lambda: statuses(gateway, token) == {503})
    assert gateway.stop() == 0


# A server that is not ours


def test_workers_of_another_server_meet(start: Start, tmp_path: Path, up: Upstream) -> None:
    """What registers with one of uvicorn's workers all know, also one that takes a killed one's place."""
    named = tmp_path / "state"
    gateway = start(configuration(tmp_path, state_dir=str(named)), workers=2)
    token = mint("ann")
    assert until(lambda: len(list(named.glob("*/worker-*"))) == 2)
    register(gateway, up)
    assert until(lambda: statuses(gateway, token) == {200})
    names = {path.name for path in named.glob("*/worker-*")}
    victim = int(min(names).split("-")[1])
    os.kill(victim, signal.SIGKILL)
    # Its replacement tells all that it is there, and so finds out that the killed one is not.
    assert until(lambda: len({path.name for path in named.glob("*/worker-*")} - names) == 1)
    assert until(lambda: len(list(named.glob("*/worker-*"))) == 2)
    assert until(lambda: statuses(gateway, token) == {200})
    gateway.stop()
    assert until(lambda: list(named.iterdir()) == [])
    assert "state_dir" not in gateway.said()


def test_workers_that_cannot_meet_are_told(start: Start, tmp_path: Path) -> None:
    """Without a directory each knows for itself, and says so once."""
    gateway = start(configuration(tmp_path), workers=2)
    assert until(lambda: gateway.said().count("server.state_dir is not set") == 2)
    gateway.stop()
    assert gateway.said().count("server.state_dir is not set") == 2


IMPORTS = """
import sys
from pathlib import Path
from propylon.assembly.gateway import Gateway
from propylon.config.reading.load import load
from propylon.process import run
from propylon.process.console import PLAIN

loaded = load(Path(sys.argv[1]), {})
run.supervise = lambda *_, **__: 0  # the parent's work begins where it forks
run._run(None, run._Opened(loaded.config, [], None, None, b"", PLAIN), None, loaded.config.server)
before = set(sys.modules)
Gateway(loaded)
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_a_replacement_imports_next_to_nothing(tmp_path: Path) -> None:
    """What verifies tokens and keeps users takes a second to import: the parent has done it before it forks."""
    file = tmp_path / "propylon.yaml"
    database = f"sqlite:///{tmp_path}/users.db"
    auth = {"jwt": {"secret": SECRET}, "tokens": {"enabled": True, "database": database}}
    file.write_text(json.dumps({"auth": auth, "server": {"workers": 2}}))
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(file)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What FastAPI needs of it for an app, and the driver of the one database.
    assert set(done.stdout.split()) <= {"pydantic", "aiosqlite", "sqlite3", "_sqlite3"}
