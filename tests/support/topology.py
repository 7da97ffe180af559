"""Describe the gateway that most cases share: its services, routes and short timeouts."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Self

from tests.support.gateway import Config, free_port
from tests.support.upstream import Arrived, Peer, Upstream

BANNER = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"
MAX_HEADER = 16 * 1024
MAX_BODY = 1_000_000
SMALL_BODY = 1000
# One request is one request: trying again, and giving up for a while, have cases of their own.
ONCE = {"attempts": 1}
# Seconds. Who looks at a time-out asks for a short one, by a route or by the impatient gateway; to
# everybody else a busy machine must look like an idle one.
PATIENT = {"connect": 10, "first_byte": 10, "idle": 10, "total": 15}
# Nothing that should go well has so little time.
CONNECT, HASTE, LATE, LULL, CURT, BOUND = 0.2, 0.15, 0.25, 0.25, 0.4, 0.4
BRIEF = 1.0  # and in the course of this, something comes five times
HEADER, BODY = 1.0, 1.0  # of the impatient gateway
LENIENT = 2.5  # of one for clients that never stop, and that a busy machine may stop for a second
DRAIN = 10


class Silence:
    """An address that accepts no connection: its queue is full, so SYNs are dropped."""

    def __init__(self) -> None:
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.port: int = self.listener.getsockname()[1]
        self._queued = [socket.socket() for _ in range(4)]
        for sock in self._queued:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", self.port))

    def close(self) -> None:
        """Give the address back."""
        for sock in [*self._queued, self.listener]:
            sock.close()


def greet_and_close(peer: Peer, arrived: Arrived) -> None:
    """Say nothing more than the greeting."""
    peer.close()


class Upstreams:
    """Every upstream that the shared configuration names; `identified`: behind authentication."""

    def __init__(self, *, identified: bool = False) -> None:
        self.main = Upstream(identified=identified)
        self.second = Upstream(identified=identified)
        self.banner = Upstream(greeting=BANNER, fallback=greet_and_close)
        self.silence = Silence()
        self.closed_port = free_port()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for upstream in (self.main, self.second, self.banner, self.silence):
            upstream.close()

    def reset(self) -> None:
        """Forget what the last case did."""
        self.main.reset()
        self.second.reset()
        self.banner.reset()

    @property
    def faults(self) -> list[str]:
        """What the gateway sent that could be read in two ways."""
        return self.main.faults + self.second.faults + self.banner.faults

    def nothing_arrived(self) -> bool:
        """Whether no upstream got a single byte."""
        return not (self.main.raw or self.second.raw or self.banner.raw)


def _url(port: int, base: str = "") -> str:
    return f"http://127.0.0.1:{port}{base}"


def _services(upstreams: Upstreams) -> dict[str, Any]:
    urls = {
        "main": _url(upstreams.main.port),
        "second": _url(upstreams.second.port),
        "based": _url(upstreams.main.port, "/base/v1"),
        "banner": _url(upstreams.banner.port),
        "silence": _url(upstreams.silence.port),
        "closed": _url(upstreams.closed_port),
        "nohost": "http://nosuch.invalid:8000",
    }
    services: dict[str, Any] = {
        name: {"url": url, "timeouts": dict(PATIENT), "retry": dict(ONCE)}
        for name, url in urls.items()
    }
    services["silence"]["timeouts"]["connect"] = CONNECT
    services["tokenless"] = {"url": urls["main"], "forward_token": False}
    services["either"] = {"instances": [urls["closed"], urls["main"]], "timeouts": dict(PATIENT)}
    services["empty"] = {}
    return services


_RULES = {
    "request": {"set": {"X-Set": "by-gateway"}, "remove": ["X-Gone"]},
    "response": {"set": {"X-Answer-Set": "by-gateway"}, "remove": ["X-Answer-Gone"]},
}

ROUTES: list[dict[str, Any]] = [
    {"name": "up", "path": "/up", "service": "main", "strip_prefix": True},
    {"name": "plain", "path": "/plain", "service": "main"},
    {"name": "user", "path": "/user", "service": "main", "strip_prefix": True},
    {"name": "auth", "path": "/auth", "service": "second", "strip_prefix": True},
    {"path": "/exact", "service": "main", "exact": True},
    {"path": "/old", "service": "main", "rewrite": "/v2/new"},
    {"path": "/based", "service": "based", "strip_prefix": True},
    {"path": "/orders", "service": "main"},
    {"path": "/orders/admin", "service": "second"},
    {"path": "/orders/{id}/items", "service": "second"},
    {"path": "/admin", "service": "second"},
    {"name": "few-get", "path": "/few", "service": "main", "methods": ["GET", "POST"]},
    {"name": "few-delete", "path": "/few", "service": "second", "methods": ["DELETE"]},
    {"name": "few-below", "path": "/few/below", "service": "main", "methods": ["GET"]},
    {"name": "hosted", "path": "/hosted", "service": "main", "hosts": ["api.example.com"]},
    {"name": "anyhost", "path": "/hosted", "service": "second"},
    {"path": "/only", "service": "main", "hosts": ["api.example.com"]},
    {"path": "/small", "service": "main", "max_body": SMALL_BODY},
    {"path": "/big", "service": "main", "max_body": 200_000_000},
    {"path": "/rules", "service": "main", "headers": _RULES},
    {"path": "/tokenless", "service": "tokenless"},
    {"path": "/banner", "service": "banner"},
    {"path": "/silence", "service": "silence"},
    {"path": "/closed", "service": "closed"},
    {"path": "/either", "service": "either"},
    {"path": "/nohost", "service": "nohost"},
    {"path": "/empty", "service": "empty"},
    {"path": "/hasty", "service": "main", "timeouts": {"first_byte": HASTE, "total": HASTE}},
    {"path": "/late", "service": "main", "timeouts": {"first_byte": LATE}},
    {"path": "/lull", "service": "main", "timeouts": {"idle": LULL}},
    {"path": "/brief", "service": "main", "timeouts": {"total": BRIEF, "idle": BRIEF}},
    {"path": "/curt", "service": "main", "timeouts": {"total": CURT}},
    {"path": "/bounded", "service": "main", "timeouts": {"max_duration": BOUND}},
]


def configuration(upstreams: Upstreams, **server: Any) -> Config:
    """The shared configuration; `server` lays keys over the server's."""
    timeouts = {"header": 20, "idle": 60, "body": 20}
    shared = {"max_body": MAX_BODY, "max_header": MAX_HEADER, "timeouts": timeouts, "drain": DRAIN}
    return {
        "server": {**shared, **server},
        "services": _services(upstreams),
        "defaults": {"auth": "none", "circuit": False},
        "routes": [dict(route) for route in ROUTES],
    }


def impatient(upstreams: Upstreams, body: float = BODY) -> Config:
    """The same for those who look at how long a client may take."""
    return configuration(upstreams, timeouts={"header": HEADER, "idle": 60, "body": body})


@contextlib.contextmanager
def upstreams() -> Iterator[Upstreams]:
    """Every upstream, for as long as the block lasts."""
    with Upstreams() as running:
        yield running
