"""A team's policies: asked in order, in a task, and refusing as FastAPI's users do or as the gateway does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from fastapi import HTTPException
from starlette.exceptions import HTTPException as StarletteHTTPException

from propylon.control.policies import compose_policies
from propylon.edge.turn import Turn
from propylon.errors import (
    AuthError,
    ClientGone,
    Forbidden,
    GatewayError,
    InternalError,
    RateLimited,
    Refused,
)
from propylon.proxy.exchange import Exchange
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.wire.headers import fields, values
from propylon.wire.message import Request
from tests.proxy.doubles import ENTROPY, Asked, Client, request, route, service
from tests.support.virtual import run

ALICE = Principal("alice")
Policy = Callable[[Request, Principal], Awaitable[None]]


def raising(error: BaseException) -> Policy:
    """A policy that refuses."""

    async def policy(asked: Request, principal: Principal) -> None:
        raise error

    return policy


def noting(said: list[Any], name: str) -> Policy:
    """A policy that writes down whom it was asked about."""

    async def policy(asked: Request, principal: Principal) -> None:
        said.append((name, asked.path, principal.subject))

    return policy


def ask(*policies: Policy, principal: Principal = ALICE) -> None:
    """Have all of them asked."""

    async def main() -> None:
        await compose_policies(policies)(request(b"/a"), principal)

    run(main())


def refused(error: BaseException) -> GatewayError:
    """What a policy's error becomes."""
    with pytest.raises(GatewayError) as caught:
        ask(raising(error))
    return caught.value


def test_in_order() -> None:
    """Each is asked about the same request and principal, one after the other."""
    said: list[Any] = []
    ask(noting(said, "first"), noting(said, "second"), noting(said, "third"))
    assert said == [(name, b"/a", "alice") for name in ("first", "second", "third")]


def test_none_at_all() -> None:
    """Nobody is asked, and everybody may."""
    ask()


def test_the_first_refusal_counts() -> None:
    """Those after it are not asked."""
    said: list[Any] = []
    with pytest.raises(Forbidden, match="no"):
        ask(noting(said, "first"), raising(Forbidden("no")), noting(said, "third"))
    assert [name for name, *_ in said] == ["first"]


def test_what_was_composed_stays() -> None:
    """A list that grows later changes nothing: another policy is compiled in with all of them."""
    said: list[Any] = []
    policies = [noting(said, "first")]
    before = compose_policies(policies)
    policies.append(noting(said, "second"))

    async def main() -> None:
        await before(request(), ANONYMOUS)

    run(main())
    assert len(said) == 1


def test_nobody_is_asked_about_too() -> None:
    """On a route that anybody may use, a policy hears of nobody."""
    said: list[Any] = []
    ask(noting(said, "only"), principal=ANONYMOUS)
    assert said == [("only", b"/a", "")]


def test_an_error_of_the_gateway_passes() -> None:
    """With whatever it holds."""
    error = RateLimited("later", headers=((b"Retry-After", b"7"),))
    assert refused(error) is error


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_REQUEST"),
        (401, "AUTH_ERROR"),
        (402, "INVALID_REQUEST"),
        (403, "AUTH_ERROR"),
        (404, "NOT_FOUND"),
        (405, "METHOD_NOT_ALLOWED"),
        (413, "PAYLOAD_TOO_LARGE"),
        (418, "INVALID_REQUEST"),
        (422, "INVALID_REQUEST"),
        (429, "RATE_LIMIT"),
        (451, "INVALID_REQUEST"),
        (500, "INTERNAL_ERROR"),
        (502, "UPSTREAM_ERROR"),
        (503, "SERVICE_UNAVAILABLE"),
        (504, "UPSTREAM_TIMEOUT"),
    ],
)
@pytest.mark.parametrize("kind", [HTTPException, StarletteHTTPException])
def test_what_users_of_fastapi_raise(
    kind: type[StarletteHTTPException], status: int, code: str
) -> None:
    """Its status, with the code that goes with it; its detail, its headers."""
    error = refused(kind(status, "because", headers={"X-Why": "so", "Retry-After": "3"}))
    assert isinstance(error, Refused)
    assert (error.status, error.code, error.message) == (status, code, "because")
    assert error.headers == ((b"X-Why", b"so"), (b"Retry-After", b"3"))
    assert isinstance(error.__cause__, StarletteHTTPException)
    assert not error.closes


def test_a_detail_may_be_left_out() -> None:
    """Then it is the status' phrase."""
    assert refused(HTTPException(403)).message == "Forbidden"


@pytest.mark.parametrize("bug", [ZeroDivisionError(), KeyError("x"), TimeoutError()])
def test_a_bug_is_a_bug(bug: Exception) -> None:
    """It lets nobody in, and is not dressed up as anything else."""
    with pytest.raises(type(bug)):
        ask(raising(bug))


def test_a_policy_that_is_no_coroutine() -> None:
    """It lets nobody in."""
    wrong: Any = lambda asked, principal: None  # noqa: E731
    with pytest.raises(TypeError):
        ask(wrong)


def test_it_runs_in_a_task() -> None:
    """Whatever it awaits finds one: timeouts, and clients of anything."""

    async def policy(asked: Request, principal: Principal) -> None:
        assert asyncio.current_task() is not outer
        async with asyncio.timeout(2):
            await asyncio.sleep(1)

    outer: asyncio.Task[Any] | None = None

    async def main() -> None:
        nonlocal outer
        outer = asyncio.current_task()
        await compose_policies([policy])(request(), ALICE)

    run(main())


class Leaving(Turn):
    """An exchange's coroutine, stepped as an edge steps it."""

    def ended(self) -> None:
        """Nothing comes after it."""

    def crashed(self) -> None:
        """Fail."""
        raise AssertionError


def test_whoever_leaves_ends_it() -> None:
    """A policy that waits does not outlive its client; the ones behind it are not asked."""
    said: list[Any] = []

    async def waits(asked: Request, principal: Principal) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            said.append("ended")

    async def exchange() -> None:
        with pytest.raises(ClientGone):
            await compose_policies([waits, noting(said, "second")])(request(), ALICE)
        said.append("gone")

    async def main() -> None:
        turn = Leaving()
        turn.run(exchange())
        await asyncio.sleep(1)
        assert (turn.over, said) == (False, [])
        turn.throw(ClientGone("gone"))
        assert turn.over
        await asyncio.sleep(1)

    run(main())
    assert sorted(said) == ["ended", "gone"]


def test_a_policy_that_is_cancelled_by_what_it_awaits() -> None:
    """Something of its own was ended: that lets nobody in, and is nobody's leaving."""

    async def policy(asked: Request, principal: Principal) -> None:
        inner = asyncio.create_task(asyncio.sleep(60))
        asyncio.get_running_loop().call_later(1, inner.cancel)
        await inner

    with pytest.raises(InternalError):
        ask(policy)


# In the life of a request


def answer(*policies: Policy, **options: Any) -> tuple[int, bytes, dict[str, Any], Asked]:
    """What a client gets behind these policies: status, header block, error; and the upstream."""
    up, client, seen = Asked(), Client(), []
    to = route(of=service(up), before=compose_policies(policies), **options)

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        sinks = (seen.append,)
        pipeline = Pipeline(Table((to,)), sinks, clock=clock, chance=lambda bits: ENTROPY)
        await pipeline.handle(request(), client)

    run(main())
    found: list[Exchange] = seen
    assert len(found) == 1
    [(_, head, block, body)] = client.events
    assert found[0].status == head.status
    return head.status, block, orjson.loads(body)["error"] if up.got == [] else {}, up


def test_who_is_let_through() -> None:
    """Then the upstream is asked."""
    said: list[Any] = []
    status, _, _, up = answer(noting(said, "only"))
    assert (status, len(up.got), len(said)) == (200, 1, 1)


def test_a_refusal_is_an_answer_like_any_other() -> None:
    """In the envelope, with its headers; nobody was asked."""
    refusing = raising(HTTPException(402, "pay first", headers={"X-Price": "7"}))
    status, block, error, up = answer(refusing)
    assert (status, up.got) == (402, [])
    assert error == {"code": "INVALID_REQUEST", "message": "pay first", "details": {}}
    assert values(block, b"x-price") == [b"7"]
    assert values(block, b"x-error-source") == [b"gateway"]


@pytest.mark.parametrize(
    ("error", "name", "said"),
    [
        (HTTPException(401), b"www-authenticate", b"Bearer"),
        (HTTPException(403), b"www-authenticate", b"Bearer"),
        (AuthError("who?"), b"www-authenticate", b"Bearer"),
        (Forbidden("not you"), b"www-authenticate", b"Bearer"),
        (HTTPException(401, headers={"www-authenticate": "Basic"}), b"www-authenticate", b"Basic"),
        (HTTPException(503), b"retry-after", b"5"),
        (HTTPException(503, headers={"retry-after": "9"}), b"retry-after", b"9"),
    ],
    ids=str,
)
def test_what_a_refusal_advises(error: Exception, name: bytes, said: bytes) -> None:
    """What to bring, or when to come back, once; whoever raised it knows better."""
    assert values(answer(raising(error))[1], name) == [said]


def test_a_policy_stands_before_the_limit() -> None:
    """Whom it refuses costs nothing of what is limited."""
    taken: list[Any] = []

    async def limit(*asked: Any) -> None:
        taken.append(asked)

    assert answer(raising(Forbidden("no")), limit=limit)[0] == 403
    assert taken == []
    assert answer(limit=limit)[0] == 200
    assert len(taken) == 1


def test_a_bug_in_a_policy() -> None:
    """500 without a word of it; nobody was asked."""
    status, block, error, up = answer(raising(ZeroDivisionError("s3cret")))
    assert (status, error["code"], up.got) == (500, "INTERNAL_ERROR", [])
    assert "s3cret" not in str(error)
    assert b"s3cret" not in block


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Why": "a\r\nX-Evil: 1"},
        {"X-Why": "a\nX-Evil: 1"},
        {"X-Why": "a\r\n\r\n<html>"},
        {"X-Why\r\nX-Evil": "1"},
        {"X-Why: a\r\nX-Evil": "1"},
        {"X-Why": "a\x00b"},
        {"X-Why": "ä \u20ac"},
        {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"},
    ],
)
def test_what_a_policy_says_makes_no_other_header(headers: dict[str, str]) -> None:
    """A value that it took from somewhere does not get out of its line, nor frame the answer."""
    status, block, _, up = answer(raising(HTTPException(403, "no", headers=headers)))
    names = [name.lower() for name, _ in fields(block)]
    assert b"x-evil" not in names
    assert not set(block) & set(b"\x00")
    assert block.replace(b"\r\n", b"").count(b"\n") == block.replace(b"\r\n", b"").count(b"\r") == 0
    assert names.count(b"content-length") == 1
    assert b"transfer-encoding" not in names
    assert status in (403, 500)
    assert up.got == []
