"""One client connection: pieces, pipelines, HTTP/1.0, Expect, half-closing, lingering."""

import time

import pytest

from tests.support import answers
from tests.support.attack import MARK, NEXT
from tests.support.client import RawClient, chunked, post_chunked, request
from tests.support.excused import excused
from tests.support.gateway import Gateway
from tests.support.topology import PATIENT, SMALL_BODY, Upstreams
from tests.support.upstream import Upstream

WELL_FORMED = {
    "get": request(target="/up/x"),
    "post": request("POST", "/up/x", body=b"hello"),
    "chunked": post_chunked("/up/x", chunked(b"hel", b"lo")),
    "many-headers": request(headers=[(f"X-{n}", "v" * 20) for n in range(30)]),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("name", WELL_FORMED)
def test_request_in_pieces_is_the_same_request(
    gateway: Gateway, up: Upstream, client: RawClient, name: str, size: int
) -> None:
    """However the bytes of a request are cut, the upstream gets the same."""
    client.trickle(WELL_FORMED[name], size)
    answer = client.read()
    assert answer.status == 200
    arrived = up.of(answer)
    assert bytes(arrived.body) == (b"hello" if name in ("post", "chunked") else b"")
    assert arrived.target == b"/x"


@pytest.mark.parametrize("name", WELL_FORMED)
def test_request_with_another_one_behind_it(
    gateway: Gateway, up: Upstream, client: RawClient, name: str
) -> None:
    """What stands behind a request is the next request, and is answered after it."""
    client.send(WELL_FORMED[name] + request(target="/up/next"))
    assert [client.read().status, client.read().status] == [200, 200]
    assert [arrived.target for arrived in up.requests] == [b"/x", b"/next"]


def test_three_requests_in_one_write_get_three_answers_in_order(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """Pipelined requests are answered in their order, even if the first one is the slowest."""
    up.on("/1", answers.after(0.2, answers.plain(body=b"one")))
    up.on("/2", answers.plain(body=b"two"))
    up.on(
        "/3",
        answers.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"three")),
    )
    client.send(b"".join(request(target=f"/up/{n}") for n in (1, 2, 3)))
    assert [client.read().body for _ in range(3)] == [b"one", b"two", b"three"]


def test_long_pipeline_is_answered_in_order(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """A hundred pipelined requests, posts among them, get a hundred answers in order."""
    requests = [
        request("POST" if n % 3 else "GET", f"/up/{n}", body=b"b" * (n % 3)) for n in range(100)
    ]
    client.send(b"".join(requests))
    bodies = [client.read().body.split()[1] for _ in range(100)]
    assert bodies == [f"/{n}".encode() for n in range(100)]


def test_pipelined_own_endpoints_and_errors_keep_the_order(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """Answers that need no upstream do not overtake those that do."""
    up.on("/slow", answers.after(0.1, answers.plain(body=b"slow")))
    targets = ["/up/slow", "/nosuch", "/livez", "/up/slow", "/nosuch"]
    client.send(b"".join(request(target=target) for target in targets))
    assert [client.read().status for _ in targets] == [200, 404, 200, 200, 404]


@pytest.mark.parametrize(
    "bad",
    [b"GET /up/x HTTP/1.1\r\n\r\n", b"NONSENSE\r\n\r\n", b"GET /up/../x HTTP/1.1\r\nHost: a\r\n\r\n",
     b"POST /up/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n"],
    ids=["no-host", "nonsense", "dot-segment", "length-list"],
)  # fmt: skip
def test_request_behind_a_rejected_one_is_never_answered(
    gateway: Gateway, up: Upstream, client: RawClient, bad: bytes
) -> None:
    """After a 400 the connection is over: what was pipelined behind is not read."""
    client.send(request(target="/up/before") + bad + NEXT + NEXT)
    status = client.read().status
    # uvicorn's parser reads ahead: its 400 overtakes the answer that is still being made.
    if status != 400 or not excused(gateway.edge, "pipelining"):
        assert status == 200
        assert client.read().status == 400
    assert client.is_closed()
    assert MARK not in up.raw


def test_http_1_0_is_closed_after_its_answer(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """An HTTP/1.0 answer of unknown length is delimited by the close, without chunks."""
    up.on(
        "/c",
        answers.raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ab", b"c")
        ),
    )
    answer = client.send(request(target="/up/c", version="1.0")).read()
    if gateway.edge == "portable" and answer.chunked:
        excused(gateway.edge, "framing")
        assert answer.body == b"abc"
        return
    assert (answer.body, answer.ended, answer.chunked) == (b"abc", "close", False)


def test_http_1_0_keep_alive_is_kept(gateway: Gateway, up: Upstream, client: RawClient) -> None:
    """HTTP/1.0 with `Connection: keep-alive` and a known length goes on."""
    ask = request(version="1.0", headers=[("Connection", "keep-alive")])
    answer = client.send(ask).read()
    if excused(gateway.edge, "framing") and "close" in (answer.get("connection") or ""):
        return
    assert answer.status == 200
    assert (answer.get("connection") or "").lower() == "keep-alive"
    assert client.send(ask).read().status == 200


def test_keep_alive_carries_many_requests(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """One connection serves one request after the other."""
    for number in range(50):
        assert client.send(request(target=f"/up/{number}")).read().status == 200
    assert len(up.requests) == 50


def test_expect_continue_is_answered_before_the_body(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """A client that waits for 100 Continue gets it, or a final answer, and then sends its body."""
    head = request("POST", "/up/x", [("Expect", "100-continue"), ("Content-Length", "5")])
    client.send(head)
    assert client._head().status == 100
    answer = client.send(b"hello").read()
    assert (answer.status, bytes(up.of(answer).body)) == (200, b"hello")
    assert client.send(request()).read().status == 200


@pytest.mark.parametrize("target", ["/nosuch", "/small"])
def test_expect_continue_is_refused_without_the_body(
    gateway: Gateway, up: Upstream, upstreams: Upstreams, client: RawClient, target: str
) -> None:
    """Refused from its head, such a request gets its final answer, no 100, and never desyncs."""
    head = request(
        "POST", target, [("Expect", "100-continue"), ("Content-Length", str(len(NEXT) + 5000))]
    )
    answer = client.send(head).read()
    assert (answer.status, answer.interim) in ((404, []), (413, []))
    client.send(NEXT)
    rest = b"" if client.is_closed(0.3) else bytes(client.buffer)
    assert b"200 OK" not in rest
    assert upstreams.nothing_arrived()


def test_expect_with_the_body_already_there(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """A client that does not wait after all is served all the same."""
    answer = client.send(request("POST", "/up/x", [("Expect", "100-continue")], b"hello")).read()
    assert (answer.status, bytes(up.of(answer).body)) == (200, b"hello")
    assert client.send(request()).read().status == 200


def test_upstreams_refusal_of_an_expectation_is_passed_on(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """A final answer before any 100 reaches the client; no half-used connection is left behind."""
    refuse = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    up.on("/e", answers.raw(refuse, early=True, end=answers.close))
    client.send(request("POST", "/up/e", [("Expect", "100-continue"), ("Content-Length", "50")]))
    answer = client.read()
    assert (answer.status, answer.body) == (403, b"no")
    client.send(b"x" * 50 + request())
    rest = b"" if client.is_closed(0.5) else bytes(client.buffer)
    assert b"400" not in rest[:12]


def test_half_closed_client_is_served(gateway: Gateway, up: Upstream, client: RawClient) -> None:
    """A client that has said everything still gets an answer that begins within a second."""
    up.on("/h", answers.after(0.2, answers.plain(body=b"late")))
    client.send(request(target="/up/h")).half_close()
    if excused(gateway.edge, "half-close"):
        client.rest()  # nothing of it is left behind for the next case
        return
    answer = client.read()
    assert (answer.status, answer.body) == (200, b"late")
    assert client.is_closed()


def test_half_closed_client_is_not_waited_for_for_ever(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """If the answer has not begun within a second of the end of input, the upstream is cancelled."""
    up.on("/big/h", answers.hang)
    client.send(request(target="/big/h"))
    hanging = up.arrived("/big/h")
    client.half_close()
    ended = time.monotonic()
    assert up.wait(lambda: hanging.cancelled)
    assert hanging.cancelled - ended < PATIENT["first_byte"] * 0.8  # that is not what ended it


def test_client_that_leaves_cancels_the_upstream(gateway: Gateway, up: Upstream) -> None:
    """A client gone in mid-request frees the upstream, long before any time-out."""
    up.on("/big/gone", answers.hang)
    client = RawClient(gateway.port).send(request(target="/big/gone"))
    hanging = up.arrived("/big/gone")
    client.reset()
    left = time.monotonic()
    assert up.wait(lambda: hanging.cancelled)
    assert hanging.cancelled - left < PATIENT["first_byte"] * 0.8


def test_client_that_leaves_in_mid_upload_never_completes_it(
    gateway: Gateway, up: Upstream, client: RawClient
) -> None:
    """Half an upload is never passed on as a whole one."""
    client.send(request("POST", "/up/half", [("Content-Length", "100")]) + b"x" * 50)
    half = up.arrived("/half")
    assert up.wait(lambda: half.length == 50)
    client.reset()
    assert up.wait(lambda: half.connection not in {peer.number for peer in up._peers})
    assert not half.complete


def test_early_refusal_is_not_lost_to_a_reset(gateway: Gateway, up: Upstream) -> None:
    """A 413 arrives though the client goes on sending: input is discarded for a while first."""
    for _ in range(5):
        with RawClient(gateway.port) as client:
            client.send(request("POST", "/small", [("Content-Length", str(SMALL_BODY * 500))]))
            client.trickle(b"x" * (SMALL_BODY * 400), 20_000, pause=0.005)
            if excused(gateway.edge, "linger"):
                continue
            answer = client.read()
            assert (answer.status, answer.complete, client.broken) == (413, True, False)
            assert client.is_closed()


def test_lingering_ends(gateway: Gateway, up: Upstream) -> None:
    """A client that never stops sending after its refusal is cut off before long."""
    with RawClient(gateway.port) as client:
        client.send(request("POST", "/small", [("Content-Length", "100000000")]))
        started = time.monotonic()
        while not client.broken and time.monotonic() - started < 20:
            client.send(b"x" * 65536)
        assert client.broken or excused(gateway.edge, "linger")


def test_connection_limit_of_nothing_sent(gateway: Gateway, up: Upstream) -> None:
    """Connections that say nothing and go leave no trace and harm nobody."""
    for _ in range(50):
        RawClient(gateway.port).sock.close()
    for _ in range(50):
        RawClient(gateway.port).reset()
    with RawClient(gateway.port) as client:
        assert client.send(request()).read().status == 200
