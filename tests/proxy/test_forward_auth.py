"""Questions about requests: what they hold, what their answers mean, and when nobody is asked."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.compile.forward_auth import AskCompiler, asking, shown_url
from propylon.config.models.forward_auth import ForwardAuthConfig
from propylon.config.models.route import RouteConfig
from propylon.errors import BadResponse, ConnectFailed, GatewayError, ServiceUnavailable
from propylon.proxy.exchange import Exchange
from propylon.proxy.forward_auth import RESULTS, ForwardAuth, question
from propylon.services.breaker import Breaker, State
from propylon.upstream.fetch import Fetched
from propylon.upstream.ports import Answer
from propylon.upstream.reply import Reply
from propylon.wire.headers import fields
from propylon.wire.message import NO_BODY, Response
from tests.proxy.doubles import Client, request
from tests.support.examples import examples

T = TypeVar("T")
GOOD = Fetched(200, b"\r\nX-User: ann", b"")


class Asked:
    """A service that decides; counts the questions, and breaks as configured."""

    def __init__(self, *says: object) -> None:
        self.says = list(says)
        self.questions: list[bytes] = []
        self.now = 0.0
        self.changes: list[tuple[str, State]] = []
        self.gate: asyncio.Event | None = None
        compiler = AskCompiler(lambda *_: Any, lambda _: [0.0] * 4, lambda: self.now, self.note)  # type: ignore[arg-type, return-value]
        config = ForwardAuthConfig(url="http://auth.test:9000/verify?a=b", headers=("X-User",))
        made = compiler.before("asked", config, _passing, preflights=False)
        assert isinstance(made, ForwardAuth)
        self.stage = made
        self.breaker: Breaker = made.decider.breaker
        self.stage.decider.ask = self.ask

    def note(self, url: str, old: State, new: State, event: object) -> None:
        """Hear of the breaker."""
        self.changes.append((url, new))

    async def ask(self, lines: bytes) -> Fetched:
        """Answer, in turn; the last answer for all that follow."""
        self.questions.append(lines)
        if self.gate is not None:
            await self.gate.wait()
        says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(says, GatewayError):
            raise says
        assert isinstance(says, Fetched)
        return says

    async def status(self) -> int:
        """Send a request; return the status that its client gets."""
        exchange = Exchange(request(), Client(), b"0" * 80, 0.0)
        try:
            answer = await self.stage(exchange, request(), None)  # type: ignore[arg-type]
        except ServiceUnavailable as error:
            return error.status
        return answer.head.status


async def _passing(*_: object) -> Answer:
    return Reply(Response(204, b" 204 No Content", b"", NO_BODY, keep_alive=True), b"", None)


def done(work: Coroutine[Any, Any, T]) -> T:
    """Run it."""
    return asyncio.run(work)


@pytest.mark.parametrize(
    ("says", "status", "result"),
    [
        (GOOD, 204, "allowed"),
        (Fetched(204, b"", b""), 204, "allowed"),
        (Fetched(299, b"", b""), 204, "allowed"),
        (Fetched(301, b"\r\nLocation: /", b""), 301, "refused"),
        (Fetched(401, b"", b"no"), 401, "refused"),
        (Fetched(404, b"", b"no"), 404, "refused"),
        (Fetched(499, b"", b"no"), 499, "refused"),
        (Fetched(304, b"", b""), 503, "failed"),
        (Fetched(500, b"", b"trace"), 503, "failed"),
        (Fetched(501, b"", b"trace"), 503, "failed"),
        (Fetched(600, b"", b""), 503, "failed"),
        (ConnectFailed("down"), 503, "failed"),
        (BadResponse("large"), 503, "failed"),
    ],
)
def test_what_an_answer_means(says: object, status: int, result: str) -> None:
    """2xx lets pass; under 500 is the client's answer; anything else is none. Each is counted."""
    asked = Asked(says)
    assert done(asked.status()) == status
    counted = {name: asked.stage.counts[at] for at, name in enumerate(RESULTS)}
    assert counted == dict.fromkeys(RESULTS, 0.0) | {result: 1.0}


def test_a_service_that_is_down_is_not_asked_each_time() -> None:
    """After five failures requests are refused at once; a second later one asks, and a good answer ends it."""
    asked = Asked(*[ConnectFailed("down")] * 6, GOOD)

    async def main() -> list[int]:
        first = [await asked.status() for _ in range(9)]
        asked.now = 0.9
        second = [await asked.status()]
        asked.now = 1.0
        third = [await asked.status() for _ in range(2)]
        asked.now = 2.0
        return [*first, *second, *third, *[await asked.status() for _ in range(3)]]

    assert done(main()) == [503] * 12 + [204] * 3
    assert len(asked.questions) == 5 + 1 + 3
    assert asked.changes[0] == ("http://auth.test:9000/verify", State.OPEN)
    assert asked.breaker.state is State.CLOSED


def test_refusals_do_not_open_it() -> None:
    """Who has no permission says nothing about the service."""
    asked = Asked(Fetched(401, b"", b""))
    assert {done(asked.status()) for _ in range(20)} == {401}
    assert len(asked.questions) == 20


def test_a_client_that_leaves_frees_the_probe() -> None:
    """The question is given up, and the next request may ask."""
    asked = Asked(*[ConnectFailed("down")] * 5, GOOD)

    async def main() -> int:
        for _ in range(5):
            await asked.status()
        asked.now = 1.0
        asked.gate = asyncio.Event()
        waiting = asyncio.ensure_future(asked.status())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        asked.gate = None
        return await asked.status()

    assert done(main()) == 204


_TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=20)


@examples(100)
@given(st.lists(st.tuples(st.sampled_from(["X-User", "x-user", "X-USER", "X-Other"]), _TEXT)))
def test_an_answer_becomes_one_line_for_each_header(pairs: list[tuple[str, str]]) -> None:
    """Whatever an answer has, the service gets at most one X-User, with all its values in order."""
    block = "".join(f"\r\n{name}: {value}" for name, value in pairs).encode("latin-1")
    asked = Asked(Fetched(200, block, b""))
    sent = request()

    async def main() -> None:
        exchange = Exchange(sent, Client(), b"0" * 80, 0.0)
        await asked.stage(exchange, sent, None)  # type: ignore[arg-type]

    done(main())
    said = [value for name, value in fields(block) if name.lower() == b"x-user"]
    wanted = {b"x-user": (b"X-User", b", ".join(said))} if any(said) else {}
    assert sent.vouched == wanted


def test_a_question_has_what_the_gateway_believes() -> None:
    """Of a client that nobody trusts, its own words about itself are not in it."""
    sent = request(
        b"/a%2Fb?c=%0d",
        b"X-Forwarded-For: 10.0.0.1",
        b"X-Forwarded-Uri: /public",
        b"X-Original-URL: http://a/",
        b"Cookie: a=1",
        b"Cookie: b=2",
        b"X-Cookie: no",
        b"Authorization: Basic eDp5",
        method=b"PUT",
    )
    exchange = Exchange(sent, Client(), b"0" * 80, 0.0)
    told = re.compile(rb"\r\n(?:Cookie|Authorization):[^\r\n]*", re.IGNORECASE)
    assert fields(question(exchange, sent, told)) == [
        (b"X-Forwarded-Method", b"PUT"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"a.test"),
        (b"X-Forwarded-Uri", b"/a%2Fb?c=%0d"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Original-Method", b"PUT"),
        (b"X-Original-URL", b"http://a.test/a%2Fb?c=%0d"),
        (b"X-Request-ID", b"0" * 32),
        (b"Cookie", b"a=1"),
        (b"Cookie", b"b=2"),
        (b"Authorization", b"Basic eDp5"),
    ]


def test_without_anything_that_asks_there_is_no_table() -> None:
    """A route that nobody could be asked about is not served."""
    route = RouteConfig(
        path="/", service="a", auth="none", forward_auth=ForwardAuthConfig(url="http://a")
    )
    with pytest.raises(RuntimeError, match="nothing that asks"):
        asking(route, _passing, None)


def test_no_secret_in_what_is_said_of_a_url() -> None:
    """Neither a password nor a query is logged."""
    assert shown_url("http://u:p@auth:9000/verify?key=k") == "http://auth:9000/verify"
