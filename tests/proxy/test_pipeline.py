"""The whole life of a request: what the client gets, what the sinks are told."""

import asyncio
from typing import Any

import orjson
import pytest

from propylon.errors import (
    AuthError,
    BadResponse,
    ClientGone,
    Forbidden,
    InvalidRequest,
    PayloadTooLarge,
    UpstreamReset,
)
from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import Principal
from propylon.proxy.route import Route, Sender
from propylon.wire.headers import values
from propylon.wire.message import Request
from tests.proxy.doubles import (
    ENTROPY,
    REQUEST_ID,
    Asked,
    Client,
    Counting,
    request,
    route,
    run,
    service,
    streamed,
    whole,
)


def pipeline(*routes: Route, seen: list[Exchange]) -> Pipeline:
    """A pipeline over these routes, which tells one list."""
    return Pipeline(
        Table(routes),
        (seen.append,),
        clock=Counting(),
        chance=lambda bits: ENTROPY,
    )


def handle(asked: Request, client: Client, *routes: Route) -> Exchange:
    """Carry one request; exactly one exchange is observed."""
    seen: list[Exchange] = []
    run(pipeline(*routes, seen=seen).handle(asked, client))
    assert len(seen) == 1
    assert seen[0].ended > seen[0].began
    return seen[0]


def answer(client: Client) -> tuple[int, bytes, Any]:
    """The one answer that was sent whole."""
    assert client.said == ["respond"]
    _, head, block, body = client.events[0]
    return head.status, block, body


def test_an_answer_passes() -> None:
    """Head and body as they came, with the request id."""
    client, found = Client(), route(of=service(Asked(whole(201, b"hello"))))
    exchange = handle(request(), client, found)
    assert answer(client) == (
        201,
        b"\r\nContent-Length: 5\r\nX-Request-ID: " + REQUEST_ID,
        b"hello",
    )
    assert (exchange.status, exchange.upstream_status, exchange.error) == (201, 201, None)
    assert exchange.route is found
    assert exchange.attempts == 1


@pytest.mark.parametrize(("own", "source"), [(False, b"upstream"), (True, b"gateway")])
@pytest.mark.parametrize("status", [399, 400, 404, 503])
def test_whose_error_it_is(status: int, own: bool, source: bytes) -> None:
    """X-Error-Source from 400 on; errors of our own endpoints are ours."""
    client = Client()
    handle(request(), client, route(of=service(Asked(whole(status)), builtin=own)))
    found = values(answer(client)[1], b"x-error-source")
    assert found == ([source] if status >= 400 else [])


def test_response_headers_of_the_route() -> None:
    """Removed, then set."""
    up = Asked(whole(200, b"", b"\r\nServer: x\r\nA: theirs\r\nB: 1"))
    client = Client()
    to = route(of=service(up), response_remove=(b"server", b"a"), response_set=b"\r\nA: ours")
    handle(request(), client, to)
    assert answer(client)[1] == b"\r\nB: 1\r\nX-Request-ID: " + REQUEST_ID + b"\r\nA: ours"


def test_a_body_is_streamed() -> None:
    """Head, flow, pieces, end."""
    client, up = Client(), streamed(b"a", b"b")
    exchange = handle(request(), client, route(of=service(Asked(up))))
    assert client.said == ["start", "write", "write", "finish"]
    assert client.flow is up
    assert (exchange.error, up.aborted, client.bytes_out) == (None, 0, 2)


@pytest.mark.parametrize("error", [UpstreamReset, BadResponse])
def test_an_error_after_the_start_cuts(error: type[UpstreamReset]) -> None:
    """A broken answer must not look whole: no envelope, no end, a cut."""
    client, up = Client(), streamed(b"a", error=error("broke"))
    exchange = handle(request(), client, route(of=service(Asked(up))))
    assert client.said == ["start", "write", "abort"]
    assert isinstance(exchange.error, error)
    assert (exchange.status, exchange.flags) == (200, ("cut",))
    assert up.aborted == 1


@pytest.mark.parametrize(
    ("client_id", "used"),
    [
        ([b"abc-1.2_3~4+5/6=7"], b"abc-1.2_3~4+5/6=7"),
        ([b"x" * 128], b"x" * 128),
        ([b"x" * 129], REQUEST_ID),
        ([b""], REQUEST_ID),
        ([b"a b"], REQUEST_ID),
        ([b"a,b"], REQUEST_ID),
        ([b"<script>"], REQUEST_ID),
        ([b"\xc3\xa9"], REQUEST_ID),
        ([b"a", b"b"], REQUEST_ID),
        ([], REQUEST_ID),
    ],
)
def test_request_id(client_id: list[bytes], used: bytes) -> None:
    """The client's, if it is one and harmless; to the upstream and back the same."""
    client, up = Client(), Asked()
    asked = request(b"/a", *[b"X-Request-ID: " + one for one in client_id])
    exchange = handle(asked, client, route(of=service(up)))
    assert exchange.request_id == used
    assert values(up.got[0][1], b"x-request-id") == [used]
    assert values(answer(client)[1], b"x-request-id") == [used]


def test_no_route() -> None:
    """404 in the envelope; no upstream was asked."""
    up, client = Asked(), Client()
    exchange = handle(request(b"/other"), client, route(of=service(up)))
    status, _, body = answer(client)
    assert (status, orjson.loads(body)["error"]["code"]) == (404, "NOT_FOUND")
    assert (exchange.status, exchange.route, up.got) == (404, None, [])
    assert not client.closes


def test_who_may_not_pass() -> None:
    """401 and 403 before the upstream is touched; the principal is on record."""
    up, client = Asked(), Client()

    async def somebody(asked: Request, client: str) -> Principal:
        return Principal("alice", block=b"\r\nX-User-Id: alice")

    def nobody_passes(principal: Principal, asked: Request, sender: Sender) -> None:
        raise Forbidden(f"not {principal} from {sender.client}")

    exchange = handle(
        request(), client, route(of=service(up), authenticate=somebody, authorize=nobody_passes)
    )
    status, _, body = answer(client)
    assert status == 403
    assert orjson.loads(body)["error"]["message"] == "not alice from 192.0.2.1"
    assert (exchange.principal.subject, up.got) == ("alice", [])
    passing, client = Asked(), Client()
    handle(request(), client, route(of=service(passing), authenticate=somebody))
    assert values(passing.got[0][1], b"x-user-id") == [b"alice"]

    async def unknown(asked: Request, client: str) -> Principal:
        raise AuthError("who?")

    client = Client()
    handle(request(), client, route(of=service(up), authenticate=unknown))
    assert (answer(client)[0], up.got) == (401, [])


@pytest.mark.parametrize("bug", [ZeroDivisionError("s3cret"), KeyError(1), AssertionError()])
def test_a_bug_in_a_stage(bug: Exception) -> None:
    """500 in the envelope, nothing of the bug in it; the sinks are told, cause included."""
    client = Client()

    async def broken(asked: Request, client: str) -> Principal:
        raise bug

    exchange = handle(request(), client, route(authenticate=broken))
    status, _, body = answer(client)
    assert status == 500
    assert orjson.loads(body)["error"] == {
        "code": "INTERNAL_ERROR",
        "message": "The gateway failed",
        "details": {},
    }
    assert exchange.error is not None
    assert exchange.error.__cause__ is bug
    assert client.closes


def test_a_bug_after_the_start_cuts() -> None:
    """Half an answer is never followed by an envelope."""
    client = Client()
    client.write = lambda data: 1 / 0  # type: ignore[assignment,method-assign]
    up = streamed(b"a")
    exchange = handle(request(), client, route(of=service(Asked(up))))
    assert client.said == ["start", "abort"]
    assert exchange.error is not None
    assert (exchange.error.code, exchange.status, up.aborted) == ("INTERNAL_ERROR", 200, 1)


def test_a_client_that_has_gone_is_sent_nothing() -> None:
    """499 for the log; the connection is cut."""
    client = Client()
    exchange = handle(request(), client, route(of=service(Asked(ClientGone("gone")))))
    assert client.said == ["abort"]
    assert (exchange.status, exchange.flags) == (499, ("client_gone",))


@pytest.mark.parametrize("error", [InvalidRequest("bad"), PayloadTooLarge("big")])
def test_an_error_that_closes(error: InvalidRequest) -> None:
    """Where the next request starts is no longer certain."""
    client = Client()
    handle(request(), client, route(of=service(Asked(error))))
    assert client.closes
    assert answer(client)[0] == error.status


@pytest.mark.parametrize("asked", [None, request()])
def test_reject(asked: Request | None) -> None:
    """What could not be read is answered and observed, too."""
    seen: list[Exchange] = []
    client = Client()
    pipeline(seen=seen).reject(InvalidRequest("bad"), client, asked)
    assert answer(client)[0] == 400
    assert [(found.status, found.request) for found in seen] == [(400, asked)]


def test_every_sink_is_told_when_it_is_cancelled() -> None:
    """Whatever ends an exchange, it is observed once."""
    seen: list[Exchange] = []
    never: asyncio.Future[None]

    async def waits(asked: Request, client: str) -> Principal:
        await never
        raise AssertionError

    async def main() -> None:
        nonlocal never
        never = asyncio.get_running_loop().create_future()
        handling = pipeline(route(authenticate=waits), seen=seen).handle(request(), Client())
        task = asyncio.create_task(handling)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(seen) == 1


def test_a_request_sees_one_table() -> None:
    """A reload while an exchange is under way changes nothing for it."""
    seen: list[Exchange] = []
    running = pipeline(seen=seen)

    async def reloads(asked: Request, client: str) -> Principal:
        running.table = Table([])
        return Principal("x")

    first = route(authenticate=reloads)
    running.table = Table([first])
    client = Client()
    run(running.handle(request(), client))
    assert answer(client)[0] == 200
    assert seen[0].route is first
