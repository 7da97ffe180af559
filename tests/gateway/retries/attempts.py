"""Services that are tried again: every kind of them, in copies, before real instances that fail."""

import socket
from itertools import pairwise
from typing import Any

from tests.support import answers
from tests.support.client import Answer, Headers, ask
from tests.support.gateway import Config, Gateway
from tests.support.topology import Silence
from tests.support.upstream import Arrived, Peer, Script, Upstream

PATH = b"/x"
BACKOFF, HASTE, TOTAL = 0.06, 0.2, 0.4  # seconds
KEPT = 64 * 1024  # of a body, for another attempt
EARLY = 0.005  # a loop counts in milliseconds
# So many cases may ask for one.
COPIES = {"one": 28, "two": 16}
FEW = 3

OK = answers.plain(body=b"at last")
ILL = answers.plain("503 Service Unavailable", ["X-From: upstream"], b"ill")


def lost(peer: Peer, arrived: Arrived) -> None:
    """Read the request and hang up."""
    peer.read_body(arrived)
    peer.close()


class Behind:
    """Two instances, an address that accepts nothing, and one that refuses."""

    def __init__(self) -> None:
        self.one, self.two = Upstream(), Upstream()
        self.silence = Silence()
        self._refusing = socket.socket()  # bound, so that nobody else comes to listen there
        self._refusing.bind(("127.0.0.1", 0))
        self.refusal: int = self._refusing.getsockname()[1]

    def close(self) -> None:
        """Give all addresses back."""
        for each in (self.one, self.two, self.silence, self._refusing):
            each.close()

    def kinds(self) -> dict[str, Config]:
        """What services there are; each kind says in what it differs from the usual."""
        one, two = self.one.port, self.two.port
        hasty, bounded = {"first_byte": HASTE}, {"total": TOTAL}
        return {
            "one": service(one),
            "two": service(one, two),
            "spaced": service(one, backoff=BACKOFF),
            "once": service(one, attempts=1),
            "opted": service(one, non_idempotent=True),
            "usual": service(one, backoff="1ms", budget="20%"),
            "refused": service(self.refusal),
            "refused-once": service(self.refusal, attempts=1),
            "silent": service(self.silence.port, attempts=2, timeouts={"connect": 0.1}),
            "hasty": service(one, timeouts=hasty),
            "hasty-again": service(one, on=["timeout"], timeouts=hasty),
            "bounded": service(one, timeouts=bounded),
            "crowded": service(one, attempts=10, backoff=BACKOFF, timeouts={"total": 10 * BACKOFF}),
            "leisurely": service(one, backoff=5, max_backoff=5, timeouts={"total": 4}),
            "waiting": service(one, backoff=2),
            "fragile": service(one, opens_after=1),
            "brittle": service(one, opens_after=2),
        }


def service(
    *ports: int, timeouts: Config | None = None, opens_after: int = 1000, **retry: Any
) -> Config:
    """A service with instances there; what is not bounded lasts longer than any client waits."""
    return {
        "instances": [f"http://127.0.0.1:{port}" for port in ports],
        "retry": {"backoff": "10ms", "budget": "100%", **retry},
        "ejection": {"max": "0%"},
        "timeouts": {"connect": 10, "first_byte": 10, "total": 30, **(timeouts or {})},
        "circuit": {"failure_threshold": opens_after, "min_throughput": 1},
    }


def configuration(behind: Behind) -> Config:
    """Every service in copies: a copy has its own budget, breaker, instances and connections."""
    services: dict[str, Config] = {}
    routes: list[Config] = []
    for kind, said in behind.kinds().items():
        for copy in range(COPIES.get(kind, FEW)):
            name = f"{kind}-{copy}"
            # Services with another limit share no connections.
            services[name] = {**said, "max_connections": 1000 + len(services)}
            routes.append({"path": f"/{name}", "service": name, "strip_prefix": True})
            if kind == "brittle":
                path = f"/stubborn/{name}"
                routes.append({"path": path, "service": name, "rewrite": "/", "circuit": False})
    return {"services": services, "routes": routes, "defaults": {"auth": "none"}}


class Retrying:
    """The gateway before them."""

    def __init__(self, gateway: Gateway, kinds: list[str]) -> None:
        self.gateway = gateway
        self._unused = {kind: iter(range(COPIES.get(kind, FEW))) for kind in kinds}

    def fresh(self, kind: str) -> str:
        """The name of a service of that kind that nobody has asked yet."""
        return f"{kind}-{next(self._unused[kind])}"

    def ask(
        self, name: str, method: str = "GET", headers: Headers = (), body: bytes = b""
    ) -> Answer:
        """Ask a service."""
        return ask(self.gateway.port, method, f"/{name}/x", headers, body)

    def attempts(self, answer: Answer) -> int:
        """How many the log says there were."""
        found: int = self.gateway.record(answer)["attempts"]
        return found


def arrived_at(up: Upstream) -> list[Arrived]:
    """The attempts that arrived there."""
    return [arrived for arrived in list(up.requests) if arrived.target == PATH]


def gaps(up: Upstream) -> list[float]:
    """From each attempt to the next."""
    return [later.started - one.started for one, later in pairwise(arrived_at(up))]


def script(up: Upstream, *steps: Script) -> None:
    """Do that, one step an attempt, the last one for all that follow."""
    up.on(PATH.decode(), answers.in_turn(*steps))


def check_error(answer: Answer, status: int, code: str) -> None:
    """Assert that it is the gateway's own error."""
    assert (answer.status, answer.get("x-error-source")) == (status, "gateway")
    assert answer.json()["error"]["code"] == code
