"""How long a client may take: for a head, between the pieces of a body, between requests, to read.

Each scenario waits for a second or more of real time, and has a connection and a path of its own. So
all of them run at the same time, against two gateways on each edge: an impatient one, and one that is less so.
"""

import time
from collections.abc import Callable

from tests.support import answers
from tests.support.client import Ended, RawClient, request
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.topology import BODY, HEADER, LENIENT
from tests.support.upstream import Arrived, Peer, Upstream

Scenario = Callable[[Gateway, Upstream], None]
BLOCK = b"x" * 100_000


def arrived_at(up: Upstream, target: str) -> list[Arrived]:
    """What has come to that path."""
    return [one for one in list(up.requests) if one.target == target.encode()]


def silence_in_a_head(gateway: Gateway, up: Upstream) -> None:
    """A head that does not end in time is 408 and the end."""
    if excused(gateway.edge, "header-time"):
        return
    with RawClient(gateway.port) as client:
        started = time.monotonic()
        client.send(b"GET /up/silent HTTP/1.1\r\nHost: gw.test\r\n")
        answer = client.read()
        assert (answer.status, answer.json()["error"]["code"]) == (408, "REQUEST_TIMEOUT")
        assert time.monotonic() - started >= HEADER * 0.8
        assert client.is_closed()


def trickling_head(gateway: Gateway, up: Upstream) -> None:
    """A byte now and then does not extend the time for a head: the limit is for all of it."""
    if excused(gateway.edge, "header-time"):
        return
    head = request(target="/up/trickling", headers=[("X-Slow", "v" * 200)])
    with RawClient(gateway.port) as client:
        client.trickle(head[:60], 1, pause=HEADER / 50)
        assert client.read().status == 408
    assert arrived_at(up, "/trickling") == []


def silence_in_a_body(gateway: Gateway, up: Upstream) -> None:
    """A body that stops coming is 408, and the upstream never sees it as whole."""
    with RawClient(gateway.port) as client:
        client.send(request("POST", "/big/stops", [("Content-Length", "10")]) + b"12345")
        assert client.read().status == 408
        assert client.is_closed()
    assert all(not one.complete for one in arrived_at(up, "/big/stops"))


def slow_body_that_progresses(gateway: Gateway, up: Upstream) -> None:
    """A body may take longer than its silence limit in all, as long as something comes."""
    body = b"x" * 8
    with RawClient(gateway.port) as client:
        client.send(request("POST", "/big/progresses", [("Content-Length", "8")]))
        client.trickle(body, 1, pause=LENIENT / 6)
        answer = client.read()
        assert answer.status == 200
    assert bytes(up.of(answer).body) == body


def pause_between_requests(gateway: Gateway, up: Upstream) -> None:
    """Between requests the idle time applies, not that of a head."""
    with RawClient(gateway.port) as client:
        assert client.send(request()).read().status == 200
        time.sleep(HEADER + 0.3)
        assert client.send(request()).read().status == 200


def slow_upstream(gateway: Gateway, up: Upstream) -> None:
    """An upstream that reads slowly gets everything, though that takes longer than a silence may."""

    def slowly(peer: Peer, arrived: Arrived) -> None:
        peer.pause(LENIENT + 0.3)
        peer.read_body(arrived)
        answers.plain(body=b"done")(peer, arrived)

    up.on("/big/slow", slowly)
    with RawClient(gateway.port) as client:
        client.send(request("POST", "/big/slow", body=b"x" * 8_000_000))
        try:
            answer = client.read()
        except Ended as error:
            raise AssertionError(f"{error}: {gateway.said()[-500:]}") from None
    assert answer.status == 200, (answer.body, gateway.said()[-500:])
    # The other edge's request for the same path may still be under way.
    assert up.of(answer).length == 8_000_000


def reader_that_stops(gateway: Gateway, up: Upstream) -> None:
    """A client that reads nothing for too long loses its answer, and the upstream is freed."""
    up.on("/big/stuck", answers.endless(BLOCK, b"HTTP/1.1 200 OK\r\n\r\n"))
    with RawClient(gateway.port, window=4096) as client:
        client.send(request(target="/big/stuck"))
        stuck = up.arrived("/big/stuck")
        # Behind the portable edge, uvicorn waits for as long as the client stays.
        patience = 20 if gateway.edge == "fast" else 1.5 * BODY
        gone = up.wait(lambda: stuck.cancelled, patience)
    assert gone or excused(gateway.edge, "linger")
    assert up.wait(lambda: stuck.cancelled)


def slow_reader(gateway: Gateway, up: Upstream) -> None:
    """Progress counts, however small; the lack of it ends the connection."""
    script, _ = answers.flood(64 << 20)
    up.on("/big/slowly", script)
    with RawClient(gateway.port, window=65536) as client:
        client.send(request(target="/big/slowly"))
        end = time.monotonic() + (2.2 if gateway.edge == "fast" else 1.2) * LENIENT
        while time.monotonic() < end:
            assert client.receive(20_000)
            time.sleep(0.05)
        assert not has_ended(gateway, "/big/slowly")
        if gateway.edge != "fast":
            return  # uvicorn has no limit for a client that does not read
        assert up.wait(lambda: has_ended(gateway, "/big/slowly"))
        assert len(client.rest()) < 64 << 20


def has_ended(gateway: Gateway, path: str) -> bool:
    """Whether the exchange for that path has ended, as the access log tells."""
    return any(line.get("path") == path and "duration_ms" in line for line in gateway.lines(path))


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__.replace("_", " "): scenario
    for scenario in (
        silence_in_a_head,
        trickling_head,
        silence_in_a_body,
        slow_body_that_progresses,
        pause_between_requests,
        slow_upstream,
        reader_that_stops,
        slow_reader,
    )
}

# In these something comes all the time: only their gateways' longer limit tells a busy machine from a client that stops.
PROGRESS = {"slow body that progresses", "slow upstream", "slow reader"}
