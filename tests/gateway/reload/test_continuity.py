"""A reload loses no request, no connection and no state of what stays as it was."""

import contextlib
import threading
import time
from pathlib import Path
from typing import Self

from tests.gateway.reload.live import (
    ADMIN,
    BROKEN,
    Live,
    soon,
    targets,
    url,
    without,
)
from tests.support.client import Answer, RawClient, ask, chunked, request
from tests.support.gateway import Config
from tests.support.tokens import bearer, mint
from tests.support.upstream import Arrived, Peer

# What goes on


class Slowly:
    """An upstream's answer that is held back, in its middle or before its beginning."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def stream(self, peer: Peer, arrived: Arrived) -> None:
        """Begin, and end when it is told to."""
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
        self._wait(peer)
        peer.send(b"8\r\n is done\r\n0\r\n\r\n")

    def late(self, peer: Peer, arrived: Arrived) -> None:
        """Say nothing until it is told to."""
        peer.read_body(arrived)
        self._wait(peer)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")

    def _wait(self, peer: Peer) -> None:
        while not self.go.is_set():
            peer.pause(0.01)


def test_what_is_under_way_goes_on(live: Live) -> None:
    """Answers, streams and uploads of a service that leaves or moves end as they would have ended."""
    slowly = Slowly()
    for upstream, path in ((live.one, "/moves"), (live.three, "/leaves")):
        upstream.on(f"{path}/stream", slowly.stream)
        upstream.on(f"{path}/late", slowly.late)
    with contextlib.ExitStack() as stack:

        def begin(data: bytes) -> RawClient:
            client = stack.enter_context(RawClient(live.gateway.port, timeout=20))
            return client.send(data)

        idle = begin(request(target="/leaves/first"))
        assert idle.read().status == 200
        streams = [begin(request(target=f"{path}/stream")) for path in ("/moves", "/leaves")]
        late = [begin(request(target=f"{path}/late")) for path in ("/moves", "/leaves")]
        head = request("POST", "/leaves/upload", [("Transfer-Encoding", "chunked")])
        body = chunked(b"half ", b"and half")
        upload = begin(head + body[:10])
        assert soon(lambda: len(targets(live.one)) == 2 and len(targets(live.three)) == 4)
        config = without(live.config(), "leaves")
        config["services"]["moves"] = {"url": url(live.two)}
        live.put(config)
        slowly.go.set()
        upload.send(body[10:])
        assert [client.read().body for client in streams] == [b"begun is done"] * 2
        assert [client.read().body for client in late] == [b"late"] * 2
        assert upload.read("POST").status == 200
        (arrived,) = [one for one in live.three.requests if one.target == b"/leaves/upload"]
        assert (bytes(arrived.body), arrived.complete) == (b"half and half", True)
        # Their clients' connections are what they were, under the new rules.
        for client in (idle, *streams, *late, upload):
            assert client.send(request(target="/leaves/again")).read().status == 404
            assert client.send(request(target="/moves/again")).read().status == 200
    assert targets(live.two).count("/moves/again") == 6
    assert "/moves/again" not in targets(live.one)


def test_connections_of_what_stays_stay(live: Live) -> None:
    """To the upstream of a service that is as it was; those of one that left are closed."""
    for path in ("/stays", "/leaves"):
        assert live.status(path) == 200
    before, connection = live.one.connections, live.one.last.connection
    assert soon(lambda: len(live.three.idle) == 1)
    config = without(live.config(), "leaves")
    config["services"]["stays"]["timeouts"] = {"total": "50s"}  # other rules, the same place
    live.put(config)
    assert soon(lambda: not live.three.idle)
    assert live.status("/stays") == 200
    assert (live.one.last.connection, live.one.connections) == (connection, before)


def test_a_breaker_stays_open(live: Live) -> None:
    """Whether its service is as it was or has other rules; a route may ignore it from now on."""
    live.one.on("/flaky", BROKEN)
    assert [live.status("/flaky") for _ in range(2)] == [503, 503]
    asked = targets(live.one).count("/flaky")
    config = without(live.config(), "leaves")
    for timeouts in ({}, {"total": "50s"}):
        config["services"]["flaky"]["timeouts"] = timeouts
        live.put(config)
        refusal = live.ask("/flaky").json()["error"]
        assert (refusal["code"], refusal["details"]["service"]) == ("CIRCUIT_OPEN", "flaky")
    circuits = live.ask("/api/v1/circuits", headers=bearer(mint(**ADMIN))).json()
    assert circuits["flaky"]["state"] == "OPEN"
    assert "leaves" not in circuits
    assert targets(live.one).count("/flaky") == asked
    config["routes"].append({"path": "/anyway", "service": "flaky", "circuit": False})
    live.put(config)
    assert live.status("/anyway") == 200
    assert live.ask("/flaky").json()["error"]["code"] == "CIRCUIT_OPEN"
    # Gone and back, it is another one.
    live.put(without(live.config(), "flaky"))
    live.one.reset()
    live.put(live.config())
    assert live.status("/flaky") == 200


def test_counts_and_probes_go_on(live: Live) -> None:
    """A limit is as used as it was, who was revoked is, and nobody is probed anew."""
    token = mint("17")
    form = [("Content-Type", "application/x-www-form-urlencoded")]
    guess = b"grant_type=password&username=nobody&password=wrong-guess-81x"
    revoked = live.status(
        "/api/v1/auth/revoke", "POST", body=f"token={token}".encode(), headers=form + bearer(token)
    )
    assert revoked == 200
    guesses = [live.status("/api/v1/auth/token", "POST", body=guess, headers=form)]
    assert soon(lambda: "/well" in targets(live.two) or live.status("/probed") == 200)
    probes = targets(live.two).count("/well")
    config = without(live.config(), "leaves")
    config["auth"]["jwt"]["leeway"] = "1s"
    for _ in range(4):
        live.put(config)
        guesses.append(live.status("/api/v1/auth/token", "POST", body=guess, headers=form))
        assert live.status("/locked", headers=bearer(token)) == 401
    assert 429 in guesses
    assert guesses[guesses.index(429) :] == [429] * (5 - guesses.index(429))
    assert not soon(lambda: targets(live.two).count("/well") > probes, within=0.7)
    counted = [
        line for line in live.ask("/metrics").body.decode().splitlines()
        if line.startswith("propylon_requests_total") and 'route="/leaves"' not in line
    ]  # fmt: skip
    assert any('route="/api/v1/auth/token"' in line and 'status="429"' in line for line in counted)


# Again and again


class Load:
    """Clients that ask and ask, and what went wrong for them."""

    def __init__(self, port: int) -> None:
        self.wrong: list[str] = []
        self.posted: list[str] = []
        self.answers = 0
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(n,)) for n in range(2)]
        self._threads.append(threading.Thread(target=self._come_and_go))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def _keep(self, number: int) -> None:
        """Many requests on one connection."""
        with RawClient(self._port) as client:
            while not self._over.wait(0.002):
                for path in ("/stays", "/moves"):
                    self._check(client.send(request(target=f"{path}/{number}")).read())

    def _come_and_go(self) -> None:
        """A request a connection, none of which may be sent twice."""
        while not self._over.wait(0.002):
            self.posted.append(f"/moves/once/{len(self.posted)}")
            self._check(ask(self._port, "POST", self.posted[-1], body=b"once"))

    def _check(self, answer: Answer) -> None:
        self.answers += 1
        if answer.status != 200 or not answer.complete:
            self.wrong.append(f"{answer.status} {answer.ended} {answer.body!r}")


def versions(live: Live) -> tuple[Config, Config]:
    """Two configurations that differ in where a service is, in its rules, and in who is there."""
    other = without(live.config(), "leaves")
    other["services"]["moves"] = {"url": url(live.two), "balance": "random"}
    other["services"]["stays"]["timeouts"] = {"total": "50s"}
    other["routes"].append({"path": "/other", "service": "moves"})
    return live.config(), other


def test_twenty_reloads_under_load_fail_nobody(live: Live) -> None:
    """Each request is answered, what must not be sent twice is not, and nothing piles up."""
    both = versions(live)
    live.put(both[1])
    files = Path(f"/proc/{live.gateway.process.pid}/fd")
    before = len(list(files.iterdir()))
    with Load(live.gateway.port) as load:
        for number in range(20):
            live.put(both[number % 2])
    assert load.wrong == []
    assert load.answers > 20
    arrived = [t for up in (live.one, live.two) for t in targets(up) if "/once/" in t]
    assert sorted(arrived) == sorted(load.posted)
    assert soon(lambda: len(list(files.iterdir())) <= before + 5)


def test_reloads_that_overtake_each_other(live: Live) -> None:
    """Told again while it reads, in whatever order: the last word is the one that counts."""
    both = versions(live)
    large = both[1] | {"routes": both[1]["routes"] + [
        {"path": f"/many/{number}", "service": "stays"} for number in range(300)
    ]}  # fmt: skip
    with Load(live.gateway.port) as load:
        for number in range(6):
            live.write(large if number % 2 else both[0])
            for _ in range(3):
                live.hangup()
                time.sleep(0.005)
        live.put(both[0])
        # Whatever was still under way has read the last file, too.
        for _ in range(5):
            assert [live.is_in_force(), live.status("/many/7"), live.status("/other")] == [True, 404, 404]  # fmt: skip
    assert load.wrong == []
