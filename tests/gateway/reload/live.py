"""A gateway whose file changes while it runs, and how it is known which file is in force."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.support.answers import plain
from tests.support.client import Answer, ask
from tests.support.gateway import Config, Gateway
from tests.support.tokens import SECRET
from tests.support.upstream import Upstream

ADMIN = {"scope": "admin"}
BROKEN = plain("503 Service Unavailable")


def soon(true: Callable[[], object], within: float = 60.0) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Live:
    """A gateway that is reloaded again and again, and what stands behind it."""

    def __init__(self, gateway: Gateway, upstreams: tuple[Upstream, ...]) -> None:
        self.gateway = gateway
        self.one, self.two, self.three = upstreams
        self._puts = 0
        self._mark = "/livez"

    def config(self) -> Config:
        """What the file says where a case says nothing else."""
        return configuration(self.one, self.two, self.three)

    def ask(self, target: str, method: str = "GET", **more: Any) -> Answer:
        """One request on a connection of its own."""
        return ask(self.gateway.port, method, target, **more)

    def status(self, target: str, method: str = "GET", **more: Any) -> int:
        """What comes of it."""
        return self.ask(target, method, **more).status

    def hangup(self) -> None:
        """Have the file read again."""
        self.gateway.process.send_signal(signal.SIGHUP)

    def write(self, config: Config) -> None:
        """Write the file, with one more route, by which it is known when it is in force."""
        self._puts += 1
        self._mark = f"/mark/{self._puts}"
        routes = [*config["routes"], {"path": self._mark, "service": "stays"}]
        server = {"host": "127.0.0.1", "port": self.gateway.port, **config.get("server", {})}
        text = yaml.safe_dump({**config, "server": server, "routes": routes}, sort_keys=False)
        # In one step: half a file may well be a valid one, and an empty one is.
        whole = self.gateway.file.with_suffix(".new")
        whole.write_text(text)
        whole.replace(self.gateway.file)

    def put(self, config: Config) -> None:
        """Put a configuration in force."""
        self.write(config)
        self.hangup()
        assert soon(self.is_in_force), self.gateway.said()[-2000:]

    def is_in_force(self) -> bool:
        """Whether the gateway goes by what was written last."""
        return self.status(self._mark) == 200

    def env(self, secret: str) -> None:
        """Write the `.env` beside the file."""
        (self.gateway.file.parent / ".env").write_text(f"GATE_SECRET={secret}\n")

    def news(self, since: int, holding: str) -> list[str]:
        """What the log says of reloads from there on."""
        lines = self.gateway.said()[since:].splitlines()
        return [line for line in lines if "reload: " in line and holding in line]

    def hears(self, since: int, holding: str) -> bool:
        """Whether the log says that of a reload, soon."""
        return soon(lambda: self.news(since, holding))

    @property
    def now(self) -> int:
        """How far the log has come."""
        return len(self.gateway.said())


def url(upstream: Upstream) -> str:
    """Where it listens."""
    return f"http://127.0.0.1:{upstream.port}"


def configuration(one: Upstream, two: Upstream, three: Upstream) -> Config:
    """A service that stays, one that moves, one that leaves, and others with a state of their own."""
    circuit = {"failure_threshold": 2, "min_throughput": 2, "recovery_timeout": "10m"}
    return {
        "auth": {
            "jwt": {"secret": "${GATE_SECRET}"},
            "tokens": {"rate_limit": {"rate": "1/m", "burst": 2, "key": "ip"}},
        },
        "defaults": {"auth": "none"},
        "services": {
            "stays": {"url": url(one)},
            "moves": {"url": url(one)},
            "leaves": {"url": url(three)},
            "flaky": {"url": url(one), "circuit": circuit, "retry": {"attempts": 1}},
            "probed": {"url": url(two), "health": {"path": "/well", "interval": "10m"}},
        },
        "routes": [
            {"path": "/stays", "service": "stays"},
            {"path": "/moves", "service": "moves"},
            {"path": "/leaves", "service": "leaves"},
            {"path": "/flaky", "service": "flaky"},
            {"path": "/probed", "service": "probed"},
            {"path": "/locked", "service": "stays", "auth": "required"},
        ],
    }


def without(config: Config, name: str) -> Config:
    """The configuration without a service, and without its route."""
    config["services"].pop(name)
    config["routes"] = [route for route in config["routes"] if route["service"] != name]
    return config


def targets(upstream: Upstream) -> list[str]:
    """What it was asked for, but for the marks."""
    found = [arrived.target.decode() for arrived in list(upstream.requests)]
    return [target for target in found if not target.startswith("/mark/")]


class Start:
    """Starts gateways, with more on their command lines."""

    def __init__(self, upstreams: tuple[Upstream, ...]) -> None:
        self._upstreams = upstreams
        self._started: list[Gateway] = []

    def __call__(
        self,
        config: Config,
        folder: Path,
        *more: str,
        app: str = "",
        first: str = "",
        fresh: bool = False,
    ) -> Live:
        """Start one there; it need not answer yet."""
        (folder / ".env").write_text(f"GATE_SECRET={SECRET}\n")
        self._started.append(
            Gateway("fast", config, folder, app=app, first=first, more=more, fresh=fresh)
        )
        return Live(self._started[-1], self._upstreams)

    def close(self) -> None:
        """End them; none of them may have met a bug."""
        for one in self._started:
            one.kill()
            assert "Traceback" not in one.said()
