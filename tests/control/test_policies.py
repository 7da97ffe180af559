"""A team's policies: asked in order, in a task, and refusing as FastAPI's users do or as the gateway does."""

import asyncio
import threading
from contextvars import ContextVar
from typing import Any

import orjson
import pytest
from fastapi import HTTPException
from starlette.exceptions import HTTPException as StarletteHTTPException

from propylon.control.policies import Policy, check_policy, compose_policies
from propylon.edge.turn import Turn
from propylon.errors import (
    AuthError,
    ClientGone,
    Forbidden,
    GatewayError,
    InternalError,
    RateLimited,
    Refused,
    UpstreamTimeout,
)
from propylon.proxy.exchange import Exchange
from propylon.proxy.forward import Forward
from propylon.proxy.match import Table
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.upstream.ports import Timeouts
from propylon.wire.headers import fields, values
from propylon.wire.message import Request
from tests.proxy.doubles import ENTROPY, Asked, Client, Counting, request, route, service
from tests.support.virtual import run

ALICE = Principal("alice")


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
        await compose_policies(policies, 60.0)(request(b"/a"), principal)

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
    before = compose_policies(policies, 60.0)
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


TENANT: ContextVar[str] = ContextVar("TENANT", default="none")


def test_a_plain_function_runs_in_a_thread() -> None:
    """As FastAPI's plain endpoints do: it may block, it sees the exchange's ContextVars, and it may refuse."""
    said: list[Any] = []

    def plain(asked: Request, principal: Principal) -> None:
        said.append((threading.current_thread() is threading.main_thread(), TENANT.get()))
        if principal is ANONYMOUS:
            raise Forbidden("no")

    async def main(principal: Principal) -> None:
        TENANT.set("shop")
        await compose_policies([plain], 60.0)(request(), principal)

    asyncio.run(main(ALICE))
    with pytest.raises(Forbidden):
        asyncio.run(main(ANONYMOUS))
    assert said == [(False, "shop")] * 2


@pytest.mark.parametrize("returned", [False, True, 0, "", {}, "no"])
def test_a_value_lets_nobody_in(returned: Any) -> None:
    """A policy that returns False thinks that it refuses: anything but None is a 500, which names the policy."""

    async def office_hours(asked: Request, principal: Principal) -> Any:
        return returned

    def on_weekdays(asked: Request, principal: Principal) -> Any:
        return returned

    for policy in (office_hours, on_weekdays):
        with pytest.raises(InternalError) as caught:
            asyncio.run(compose_policies([policy], 60.0)(request(), ALICE))  # type: ignore[arg-type]
        assert policy.__qualname__ in caught.value.reason


def test_a_policy_has_no_more_than_the_total() -> None:
    """One that hangs is a 504, which names it; those after it are not asked."""
    said: list[Any] = []

    async def hanging(asked: Request, principal: Principal) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        await compose_policies([hanging, noting(said, "second")], 5.0)(request(), ALICE)

    with pytest.raises(UpstreamTimeout) as caught:
        run(main())
    assert (caught.value.status, said) == (504, [])
    assert "hanging" in caught.value.reason


@pytest.mark.parametrize("status", [100, 101, 200, 204, 304, 600, 999])
def test_a_status_that_refuses_nothing(status: int) -> None:
    """It is a 500 with a reason: nothing may be let through, and 101 and 204 have no body to say why."""
    error = refused(HTTPException(status))
    assert (error.status, str(status) in error.reason) == (500, True)


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt()])
def test_the_process_goes_on(end: BaseException) -> None:
    """What would end the process ends the exchange."""
    error = refused(end)
    assert (error.status, type(end).__name__ in error.reason) == (500, True)


def test_what_is_no_policy() -> None:
    """It is refused when it is registered, with what is wrong."""

    def one_argument(asked: Request) -> None: ...

    def three(asked: Request, principal: Principal, more: int) -> None: ...

    async def fine(asked: Request, principal: Principal, more: int = 0) -> None: ...

    for wrong in (one_argument, three, "orders", None):
        with pytest.raises(TypeError, match="policy"):
            check_policy(wrong)
    check_policy(fine)


def told(*policies: Policy, lines: tuple[bytes, ...] = ()) -> bytes:
    """The block that an upstream gets behind these policies."""
    up, client = Asked(), Client()
    to = route(of=service(up), before=compose_policies(policies, 60.0))

    async def main() -> None:
        pipeline = Pipeline(Table((to,)), (), clock=Counting(), chance=lambda bits: ENTROPY)
        await pipeline.handle(request(b"/a", *lines), client)

    run(main())
    return up.got[0][1]


def test_a_policy_tells_the_upstream() -> None:
    """Its header replaces what the client sent under that name, in any spelling; the last value counts."""

    async def tenant(asked: Request, principal: Principal) -> None:
        asked.set_header("X-Tenant", "guess")
        asked.set_header("X-Tenant", "shop")

    sent = (b"x-tenant: forged", b"X_Tenant: forged", b"X-Tenants: others")
    block = told(tenant, lines=sent)
    assert values(block, b"x-tenant") == [b"shop"]
    assert (values(block, b"x_tenant"), values(block, b"x-tenants")) == ([], [b"others"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Tenant", "a\r\nX-User-Id: root"),
        ("X-Tenant", "a\x00"),
        ("X-Tenant", "\u20ac"),
        ("X Tenant", "a"),
        ("X-Tenant:", "a"),
        ("", "a"),
        ("Content-Length", "5"),
        ("transfer_encoding", "chunked"),
        ("X-User-Id", "root"),
        ("x_user_id", "root"),
        ("Host", "a"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Connection", "x-tenant"),
    ],
)
def test_a_policy_cannot_say_what_the_gateway_says(name: str, value: str) -> None:
    """Nothing that ends a line, frames the message or names the client or the user."""
    with pytest.raises(ValueError, match="header|gateway"):
        request().set_header(name, value)


def test_the_total_covers_the_policies() -> None:
    """What they take is taken from the upstream's time."""
    up, seen = Asked(), list[Exchange]()

    async def slow(asked: Request, principal: Principal) -> None:
        await asyncio.sleep(3)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        forward = Forward(loop.time, loop.time, lambda: 0.0)
        to = route(
            of=service(up),
            before=compose_policies([slow], 5.0),
            timeouts=Timeouts(total=5.0),
            forward=forward,
        )
        pipeline = Pipeline(
            Table((to,)), (seen.append,), clock=loop.time, chance=lambda bits: ENTROPY
        )
        began = loop.time()
        await pipeline.handle(request(), Client())
        return up.deadlines[0] - began

    assert run(main()) == pytest.approx(5.0)


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
        await compose_policies([policy], 60.0)(request(), ALICE)

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
            await compose_policies([waits, noting(said, "second")], 60.0)(request(), ALICE)
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
    to = route(of=service(up), before=compose_policies(policies, 60.0), **options)

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
