"""Services whose breakers are looked at: each in copies, since what a breaker knows is never taken back."""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import answers
from tests.support.client import Answer, Headers, RawClient, ask, request
from tests.support.gateway import EDGES, Config, Gateway
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Arrived, Peer, Script, Upstream

CIRCUITS = "/api/v1/circuits"
ADMIN = {"scope": "admin"}
BROKEN = answers.plain("500 Broken")
THRESHOLD = 3
BODY = 1.0  # seconds that a client may be silent in its body
# What is closed stays closed until it has failed, and what is open stays open: no case is a race
# against a clock that it does not look at.
CIRCUIT = {
    "failure_threshold": THRESHOLD,
    "min_throughput": 1,
    "recovery_timeout": "10m",
    "half_open_timeout": "10m",
}
TIMEOUTS = {"connect": 5, "first_byte": 20, "idle": 20, "total": 30}

Routes = Mapping[str, Mapping[str, Any]]  # what is said of a path below the service's own


@dataclass
class Kind:
    """Services of which each case takes a fresh one, and what they have otherwise than usual."""

    copies: int
    circuit: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Mapping[str, Any] = field(default_factory=dict)
    routes: Routes = field(default_factory=dict)
    retry: Mapping[str, Any] = field(default_factory=lambda: {"attempts": 1})
    url: str = ""

    def service(self, upstream: Upstream) -> dict[str, Any]:
        """One of them."""
        where = self.url or f"http://127.0.0.1:{upstream.port}"
        return {
            **({} if self.url == "none" else {"url": where}),
            "retry": dict(self.retry),
            "circuit": {**CIRCUIT, **self.circuit},
            "timeouts": {**TIMEOUTS, **self.timeouts},
        }


def configuration(edge: str, kinds: Mapping[str, Kind], upstream: Upstream) -> Config:
    """Every service, and its routes: its own path, and those below it that say otherwise."""
    services, routes = {}, []
    for kind, said in kinds.items():
        for copy in range(said.copies):
            name = f"{edge}-{kind}-{copy}"  # so that the upstream can tell the edges apart
            services[name] = said.service(upstream)
            rules: Routes = {"": {}, "/bare": {"circuit": False}, **said.routes}
            routes += [
                {"path": f"/{name}{below}", "service": name, **rules[below]} for below in rules
            ]
    return {
        "server": {"timeouts": {"body": BODY}, "drain": 1},
        "auth": {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}},
        "defaults": {"auth": "none"},
        "services": services,
        "routes": routes,
    }


def moment(text: str) -> float:
    """Seconds since 1970, from RFC 3339."""
    assert text.endswith("Z")
    return datetime.fromisoformat(text).timestamp()


def held(go: threading.Event, script: Script) -> Script:
    """The script, as soon as the event is set."""

    def later(peer: Peer, arrived: Arrived) -> None:
        peer.read_body(arrived)
        go.wait(300)
        script(peer, arrived)

    return later


def is_refusal(answer: Answer) -> bool:
    """Whether it is what a client gets while the breaker is open."""
    if (answer.status, answer.get("x-error-source")) != (503, "gateway"):
        return False
    return bool(answer.json()["error"]["code"] == "CIRCUIT_OPEN")


class Circuit:
    """A service behind its breaker, as its clients, itself and the operator see it."""

    def __init__(self, gateway: Gateway, upstream: Upstream, name: str) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.name = name
        self.path = f"/{name}"
        self._before = 0

    def on(self, *steps: Script, below: str = "") -> None:
        """Have the upstream do that, one step a request, the last one for all that follow."""
        self.upstream.on(self.path + below, answers.in_turn(*steps))

    def ask(
        self, method: str = "GET", below: str = "", headers: Headers = (), body: bytes = b""
    ) -> Answer:
        """One request, on a connection of its own."""
        return ask(self.gateway.port, method, self.path + below, headers, body)

    def begin(
        self, method: str = "GET", headers: Headers = (), body: bytes = b"", *, short: int = 0
    ) -> RawClient:
        """Send a request, `short` of its last bytes, and do not wait for the answer."""
        data = request(method, self.path, headers, body)
        return RawClient(self.gateway.port, timeout=30).send(data[: len(data) - short])

    def together(self, times: int) -> list[Answer]:
        """Several requests at the same time."""
        with ThreadPoolExecutor(times) as threads:
            return list(threads.map(lambda _: self.ask(), range(times)))

    def fail(self, times: int = THRESHOLD) -> None:
        """Have it answer 500 so often."""
        self.on(BROKEN)
        for _ in range(times):
            assert self.ask().get("x-error-source") == "upstream"

    def arrived(self) -> list[Arrived]:
        """What has come to the upstream, below the path, too."""
        own = self.path.encode() + b"/"
        came = list(self.upstream.requests)
        found = [one for one in came if (one.target + b"/").startswith(own)]
        return found[self._before :]

    def forget(self) -> Self:
        """Leave out what has come until now."""
        self._before += len(self.arrived())
        return self

    def shown(self) -> dict[str, Any]:
        """What the operator sees of it."""
        answer = ask(self.gateway.port, target=CIRCUITS, headers=authorized(**ADMIN))
        assert answer.status == 200
        found: dict[str, Any] = answer.json()[self.name]
        return found

    @property
    def state(self) -> str:
        """The state that the operator sees."""
        return str(self.shown()["state"])

    @property
    def failures(self) -> tuple[str, int]:
        """The state, and how many failures are counted."""
        found = self.shown()
        return found["state"], found["failures"]

    def news(self) -> list[dict[str, Any]]:
        """The lines of the log that tell of its breaker."""
        start = f'circuit of "{self.name}": '
        lines = self.gateway.lines(self.name)
        return [line for line in lines if str(line.get("event", "")).startswith(start)]

    def moves(self) -> list[str]:
        """What the log says became of it, and why."""
        return [str(line["event"]).partition(": ")[2] for line in self.news()]

    def records(self) -> list[dict[str, Any]]:
        """The access records of its requests, as far as they are written."""
        lines = self.gateway.lines(self.name)
        return [line for line in lines if "duration_ms" in line and line["service"] == self.name]


class Circuits:
    """All of them, behind a gateway on each edge."""

    def __init__(self, kinds: Mapping[str, Kind], folder: Path) -> None:
        self.upstream = Upstream()
        self.gateways: dict[str, Gateway] = {}
        for edge in EDGES:  # they start at the same time
            (folder / edge).mkdir()
            config = configuration(edge, kinds, self.upstream)
            self.gateways[edge] = Gateway(edge, config, folder / edge)
        self._unused = {
            (edge, kind): iter(range(said.copies)) for edge in EDGES for kind, said in kinds.items()
        }
        self.kinds = kinds

    def __enter__(self) -> Self:
        for gateway in self.gateways.values():
            gateway.wait_ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.upstream.close()
        statuses = {edge: gateway.stop() for edge, gateway in self.gateways.items()}
        # uvicorn ends by the signal that stopped it: excused as "exit-status".
        assert statuses in ({"fast": 0, "portable": 0}, {"fast": 0, "portable": -15})
        for edge, gateway in self.gateways.items():
            said = gateway.said()
            # A foreign server is made to cut a connection by an error, and says so.
            cuts = said.count("AnswerCut: ") if edge == "portable" else 0
            assert said.count("Traceback") == cuts
            for trouble in ("never retrieved", "was destroyed", "never awaited"):
                assert trouble not in said

    def fresh(self, edge: str, kind: str) -> Circuit:
        """A service that nobody has asked yet on that edge."""
        return self.of(edge, kind, next(self._unused[edge, kind]))

    def of(self, edge: str, kind: str, copy: int) -> Circuit:
        """A certain one."""
        return Circuit(self.gateways[edge], self.upstream, f"{edge}-{kind}-{copy}")

    def all(self, kind: str) -> Iterator[Circuit]:
        """Every service of a kind, on both edges."""
        for edge in EDGES:
            for copy in range(self.kinds[kind].copies):
                yield self.of(edge, kind, copy)
