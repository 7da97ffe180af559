"""Reload: what a file says anew is in force without losing a request, and a mistake changes nothing."""

import contextlib
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from propylon import Gateway as Propylon
from tests.cli.test_run import certificate
from tests.gateway.test_policies import InProcess
from tests.support.answers import plain
from tests.support.client import Answer, RawClient, ask, chunked, request
from tests.support.gateway import Config, Gateway
from tests.support.tokens import OTHER_SECRET, SECRET, bearer, mint
from tests.support.upstream import Arrived, Peer, Upstream

ADMIN = {"scope": "admin"}
BROKEN = plain("503 Service Unavailable")


def soon(true: Callable[[], object], within: float = 10.0) -> bool:
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


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[Upstream, ...]]:
    """Three upstreams; nothing dubious may have reached them."""
    with Upstream(identified=True) as one, Upstream() as two, Upstream() as three:
        yield one, two, three
        assert one.faults + two.faults + three.faults == []


@pytest.fixture(scope="module")
def running(
    behind: tuple[Upstream, ...], watched: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    """One gateway for most cases; it was told to reload before it was quite there."""
    folder = tmp_path_factory.mktemp("reload")
    (folder / ".env").write_text(f"GATE_SECRET={SECRET}\n")
    first = Gateway("fast", without(configuration(*behind), "leaves"), folder, fresh=True)
    live = Live(first, behind)
    assert soon(lambda: "listening" in first.said() or first.process.poll() is not None)
    # It has read its file by now, and has no loop yet.
    live.write(live.config())
    live.hangup()
    first.wait_ready()
    yield live
    first.kill()
    assert "Traceback" not in first.said()


@pytest.fixture
def live(running: Live) -> Live:
    """The gateway, as the base configuration has it, with upstreams that know nothing."""
    running.env(SECRET)
    for upstream in (running.one, running.two, running.three):
        upstream.reset()
    running.put(running.config())
    return running


def targets(upstream: Upstream) -> list[str]:
    """What it was asked for, but for the marks."""
    found = [arrived.target.decode() for arrived in list(upstream.requests)]
    return [target for target in found if not target.startswith("/mark/")]


# What takes effect


def test_a_hangup_while_it_starts_is_no_hangup_lost(running: Live) -> None:
    """The file changed after it was read, and before there was a loop to hear the signal."""
    assert soon(running.is_in_force)
    assert running.status("/leaves") == 200


def test_what_changed_is_in_force(live: Live) -> None:
    """A new route works, a removed one is 404, a service is where it is now, rules are as written."""
    assert [live.status(path) for path in ("/new", "/leaves", "/moves/a")] == [404, 200, 200]
    config = without(live.config(), "leaves")
    config["services"]["moves"] = {"url": url(live.two)}
    config["services"]["newcomer"] = {"url": url(live.three)}
    config["routes"].append({"path": "/new", "service": "newcomer"})
    config["routes"][0] |= {"methods": ["GET", "POST"], "strip_prefix": True}
    live.put(config)
    paths = ("/new/b", "/leaves", "/moves/b", "/stays/b")
    assert [live.status(path) for path in paths] == [200, 404, 200, 200]
    assert targets(live.one) == ["/moves/a", "/b"]
    assert targets(live.two)[-1:] == ["/moves/b"]
    assert targets(live.three) == ["/leaves", "/new/b"]
    refusal = live.ask("/stays", "DELETE")
    assert (refusal.status, refusal.get("allow")) == (405, "GET, POST")
    assert set(live.ask("/health").json()["services"]) == set(config["services"])


def test_limits_and_trust_change_with_it(live: Live) -> None:
    """What the file says of clients holds for the next request."""
    forwarded = [("X-Forwarded-For", "192.0.2.7")]
    assert live.status("/stays", "POST", body=b"x" * 11, headers=forwarded) == 200
    assert live.one.last.get("x-forwarded-for") == "127.0.0.1"
    config = live.config()
    config["server"] = {"max_body": 10, "max_header": 1024, "trusted_proxies": ["127.0.0.1"]}
    live.put(config)
    assert live.status("/stays", headers=forwarded) == 200
    assert live.one.last.get("x-forwarded-for") == "192.0.2.7, 127.0.0.1"
    assert live.status("/stays", "POST", body=b"x" * 11) == 413
    assert live.status("/stays", headers=[("X-Long", "x" * 1024)]) == 431


def test_a_secret_that_has_leaked_is_replaced(live: Live) -> None:
    """`.env` is read again; a token of the old secret is refused, though it was known to be good."""
    old, new = mint("42"), mint("42", secret=OTHER_SECRET)
    for expected in ([200, 401], [200, 401]):
        assert [live.status("/locked", headers=bearer(one)) for one in (old, new)] == expected
    live.env(OTHER_SECRET)
    live.put(live.config())
    assert [live.status("/locked", headers=bearer(one)) for one in (old, new)] == [401, 200]


def test_what_needs_a_start_is_said(live: Live) -> None:
    """Sockets, processes, paths and the database stay as they are; the rest of the file does not."""
    config = without(live.config(), "leaves")
    config["server"] = {"host": "127.0.0.9", "port": 1, "workers": 3, "drain": 7, "drain_delay": 1}
    config |= {"prefix": "/elsewhere", "log": {"format": "text"}}
    config["tls"] = {"certificate": "some.pem", "key": "some.key"}
    config["auth"]["tokens"] |= {"database": "sqlite:///other.db", "refresh_expires": "3d"}
    since = live.now
    live.put(config)
    keys = {f"server.{key}" for key in config["server"]} | {"prefix", "log.format", "tls"}
    keys |= {"auth.tokens.database", "auth.tokens.refresh_expires"}
    assert soon(lambda: len(live.news(since, "takes effect with the next start")) >= len(keys))
    said = [line["event"] for line in live.gateway.lines("takes effect")][-len(keys) :]
    assert set(said) == {f"reload: {key} takes effect with the next start" for key in keys}
    admin = bearer(mint(**ADMIN))
    paths = ("/leaves", "/stays", "/api/v1/circuits", "/elsewhere/circuits")
    assert [live.status(path, headers=admin) for path in paths] == [404, 200, 200, 404]


# What is wrong


MISTAKES = {
    "no YAML": (b"routes:\n  - {path: /a\n", ":3: not valid YAML"),
    "nothing": (b"", ":1 routes: none is left"),
    "a tab": (b"routes:\n\t- path: /a\n", ":2: not valid YAML"),
    "no mapping": (b"- routes\n", ":1: must be a mapping"),
    "an unknown key": (b"server: {}\n\nserivces: {}\n", ':3 serivces: unknown key; did you mean "services"?'),
    "a bad value": (b"server:\n  drain: soon\n", ":2 server.drain: "),
    "a dangling name": (
        b"services: {orders: {}}\nroutes:\n  - path: /a\n    service: oders\n",
        ':4 routes[0].service: no service "oders"; did you mean "orders"?',
    ),
    "an unset variable": (b"prefix: /a\nlog: {level: '${NOBODY_SETS_THIS}'}\n", ":2 log.level: "),
    "no text": (b"routes: []\n# \xff\n", ": cannot be read: line 2 is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_changes_nothing(live: Live, name: str) -> None:
    """The log says where it stands and what is wrong; the old file is in force until a good one comes."""
    content, complaint = MISTAKES[name]
    since = live.now
    live.gateway.file.write_bytes(content)
    live.hangup()
    assert live.hears(since, "nothing changes")
    events = [line["event"] for line in live.gateway.lines("nothing changes")]
    assert events[-1].startswith(f"reload: nothing changes: {live.gateway.file}{complaint}")
    assert live.is_in_force()
    assert [live.status(path) for path in ("/stays", "/leaves")] == [200, 200]
    live.put(without(live.config(), "leaves"))
    assert live.status("/leaves") == 404


def test_every_mistake_is_told(live: Live) -> None:
    """All of them at once, and nothing of what is right beside them takes effect."""
    config = without(live.config(), "leaves")
    config["routes"] += [{"path": "/a", "service": "nobody"}, {"path": "b", "service": "stays"}]
    since = live.now
    live.write(config)
    live.hangup()
    assert soon(lambda: len(live.news(since, "nothing changes")) >= 2)
    assert live.news(since, 'no service \\"nobody\\"')
    assert live.news(since, "routes[6].path: ")
    assert [live.is_in_force(), live.status("/leaves")] == [False, 200]


def test_a_file_that_is_gone_changes_nothing(live: Live) -> None:
    """And neither does one that may not be read, or is a directory."""
    file, aside = live.gateway.file, live.gateway.file.with_name("aside")
    file.rename(aside)
    for reason in ("no such file or directory", "it is a directory"):
        since = live.now
        live.hangup()
        assert live.hears(since, f"{file}: cannot be read: {reason}")
        assert live.status("/leaves") == 200
        if not file.exists():
            file.mkdir()
    file.rmdir()
    aside.rename(file)
    live.put(without(live.config(), "leaves"))
    assert live.status("/leaves") == 404


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


# By itself


class Start:
    """Starts gateways, with more on their command lines."""

    def __init__(self, upstreams: tuple[Upstream, ...]) -> None:
        self._upstreams = upstreams
        self._started: list[Gateway] = []

    def __call__(self, config: Config, folder: Path, *more: str, app: str = "") -> Live:
        """Start one there; it need not answer yet."""
        (folder / ".env").write_text(f"GATE_SECRET={SECRET}\n")
        self._started.append(Gateway("fast", config, folder, app=app, more=more))
        return Live(self._started[-1], self._upstreams)

    def close(self) -> None:
        """End them; none of them may have met a bug."""
        for one in self._started:
            one.kill()
            assert "Traceback" not in one.said()


@pytest.fixture
def start(behind: tuple[Upstream, ...]) -> Iterator[Start]:
    """Start gateways of one's own; they end with the case."""
    for upstream in behind:
        upstream.reset()
    starter = Start(behind)
    yield starter
    starter.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[None]]:
    """What becomes of a file that is watched: it waits, mostly, so it is looked at beside the others."""
    folder = tmp_path_factory.mktemp("watched")
    with Upstream() as one, ThreadPoolExecutor(1) as pool:
        starter = Start((one, one, one))
        live = starter(configuration(one, one, one), folder, "--reload")
        yield pool.submit(watch, live, live.gateway.file)
        starter.close()


def watch(live: Live, file: Path) -> None:
    """Change the file in one way after the other."""
    live.gateway.wait_ready()
    folder = file.parent
    # As Kubernetes mounts a ConfigMap: the file is a link through a directory that is a link.
    for version in ("1", "2"):
        (folder / f"..{version}").mkdir()
        live.gateway.file = folder / f"..{version}" / "propylon.yaml"
        live.write(live.config())
    (folder / "..data").symlink_to("..1")
    (folder / "link").symlink_to(Path("..data", "propylon.yaml"))
    (folder / "link").replace(file)
    assert soon(lambda: live.status("/mark/1") == 200)
    (folder / "..next").symlink_to("..2")
    (folder / "..next").replace(folder / "..data")
    assert soon(live.is_in_force)
    assert live.status("/mark/1") == 404
    # In place.
    since = live.now
    live.gateway.file.write_text("routes:\n  - nothing\n")
    assert live.hears(since, f"nothing changes: {file}:2 routes[0]: ")
    assert live.is_in_force()
    live.write(live.config())
    assert soon(live.is_in_force)


def test_a_file_that_is_watched_is_read_by_itself(watched: Future[None]) -> None:
    """Replaced by a link, swapped with its directory, written in place; a mistake waits for its cure."""
    watched.result(60)


# Certificates


class Secure:
    """A connection in TLS, and the certificate that the gateway showed."""

    def __init__(self, port: int) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connected:
            self.socket = context.wrap_socket(connected)
        self.shown = self.socket.getpeercert(binary_form=True) or b""

    def status(self, target: str) -> int:
        """Ask something that has a short answer."""
        self.socket.sendall(request(target=target))
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.socket.recv(65536) or pytest.fail(f"closed after {got!r}")
        return int(got.split(b" ")[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()


def shows(port: int, expected: Path | bytes) -> bool:
    """Whether that certificate is what a new connection is shown."""
    if isinstance(expected, Path):
        expected = ssl.PEM_cert_to_DER_cert(expected.read_text())
    with contextlib.suppress(OSError), Secure(port) as client:
        return client.shown == expected
    return False


def test_a_renewed_certificate_is_shown(
    start: Start, behind: tuple[Upstream, ...], tmp_path: Path
) -> None:
    """To new connections, from the same files or others; old ones go on; half a pair is not taken."""
    chain, key = certificate(tmp_path, "first")
    second, third = certificate(tmp_path, "second"), certificate(tmp_path, "third")
    tls = {"certificate": str(chain), "key": str(key)}
    live = start(configuration(*behind) | {"tls": tls}, tmp_path)
    port, file = live.gateway.port, live.gateway.file
    assert soon(lambda: shows(port, chain))
    with Secure(port) as old:
        assert old.status("/stays") == 200
        # Renewed in its place, as certbot does; nothing else has changed.
        renewed = ssl.PEM_cert_to_DER_cert(second[0].read_text())
        second[0].replace(chain)
        second[1].replace(key)
        live.hangup()
        assert soon(lambda: shows(port, renewed))
        # A certificate and another one's key; a key that is not there.
        text = file.read_text()
        for name, other, complaint in (
            (chain, third[0], f"the certificate {third[0]} and the key {key} do not fit"),
            (key, tmp_path / "none", f"cannot read {chain} or {tmp_path / 'none'}"),
        ):
            since = live.now
            file.write_text(text.replace(str(name), str(other)))
            live.hangup()
            assert live.hears(since, f"the old certificate stays: {complaint}")
            assert shows(port, renewed)
        # Another pair.
        file.write_text(text.replace(str(chain), str(third[0])).replace(str(key), str(third[1])))
        live.hangup()
        assert soon(lambda: shows(port, third[0]))
        assert old.status("/moves") == 200


# A gateway of one's own


OWN = """
from propylon import Gateway, Principal, Request
from propylon.errors import Forbidden

gateway = Gateway.from_file("propylon.yaml")

@gateway.before("/moves")
async def nobody(request: Request, principal: Principal) -> None:
    raise Forbidden("Nobody passes")

@gateway.api.get("/health/mine")
async def mine() -> str:
    return "mine"
"""


def test_a_gateway_of_ones_own_keeps_its_policies(
    start: Start, behind: tuple[Upstream, ...], tmp_path: Path
) -> None:
    """They stay with the names of their routes; a file in which one has no route is refused."""
    (tmp_path / "own.py").write_text(OWN)
    live = start(configuration(*behind), tmp_path, app="own")
    live.gateway.wait_ready()
    member = bearer(mint("7"))
    config = without(live.config(), "leaves")
    config["routes"][1] = {"name": "/moves", "path": "/moved", "service": "moves"}
    config["server"] = {"workers": 4, "port": 1}  # the command line and the code have said it
    live.put(config)
    paths = ("/moves", "/moved", "/stays", "/leaves")
    assert [live.status(path) for path in paths] == [404, 403, 200, 404]
    assert live.ask("/health/mine", headers=member).body == b'"mine"'
    config["routes"][1]["name"] = "moved"
    since = live.now
    live.write(config)
    live.hangup()
    assert live.hears(since, "nothing changes")
    (said,) = live.news(since, "nothing changes")
    assert 'no route \\"/moves\\", and a policy stands before it' in said
    assert (live.is_in_force(), live.status("/moved")) == (False, 403)
    assert not live.news(0, "takes effect with the next start")
    assert targets(live.one).count("/moved") == 0


def test_a_gateway_in_a_foreign_server_is_told_to(
    tmp_path: Path, behind: tuple[Upstream, ...]
) -> None:
    """Where no signal is ours, `reload` does the same, and changes nothing for a mistake."""
    file = tmp_path / "propylon.yaml"
    route = {"path": "/stays", "service": "stays", "auth": "none"}
    good = yaml.safe_dump({"services": {"stays": {"url": url(behind[0])}}, "routes": [route]})
    file.write_text(good)
    gateway = Propylon.from_file(file, {})

    async def reload() -> None:
        gateway.reload()

    def statuses() -> list[int]:
        return [client.get(path).status_code for path in ("/stays", "/other")]

    with InProcess(gateway.asgi, gateway) as client:
        assert statuses() == [200, 404]
        file.write_text(good.replace("/stays", "/other"))
        assert statuses() == [200, 404]
        for text in (None, "routes: 7\n"):
            file.write_text(text or file.read_text())
            client._runner.run(reload())
            assert statuses() == [404, 200]
