"""Asking about opaque tokens: what an answer means, for how long, and that nobody asks for nothing."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import (
    AuthError,
    BadResponse,
    ConnectFailed,
    GatewayError,
    ServiceUnavailable,
    StaleConnection,
    UpstreamTimeout,
)
from propylon.proxy.authenticate import introspection as module
from propylon.proxy.authenticate.claims import Rules
from propylon.proxy.authenticate.introspection import Introspection
from propylon.proxy.authenticate.trust import Trust
from propylon.upstream.fetch import Fetched
from tests.proxy.authenticate.stand_in import NOW, Wall
from tests.support.virtual import run

TOKEN = b"kQ3-opaque-7vX2"
ACTIVE = {"active": True, "sub": "42", "scope": "read write", "exp": NOW + 600}
TTL = 30.0


def said(answer: object, status: int = 200) -> Fetched:
    """An answer."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return Fetched(status, b"\r\nContent-Type: application/json", body)


class Source:
    """An introspection endpoint; counts what it is asked, by token."""

    def __init__(self, says: object) -> None:
        self.says = says
        self.asked: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def post(self, token: bytes) -> Fetched:
        """Answer when the gate is open."""
        self.asked.append(token)
        await self.gate.wait()
        says = self.says(token) if callable(self.says) else self.says
        if isinstance(says, GatewayError):
            raise says
        return says if isinstance(says, Fetched) else said(says)


def asker(
    source: Source,
    *,
    rules: Rules | None = None,
    ttl: float = TTL,
    clock: Callable[[], float] | None = None,
) -> Introspection:
    """Whoever asks this source."""
    return Introspection(source.post, [Trust(rules or Rules())], ttl=ttl, clock=clock or Wall())


async def verdict(introspection: Introspection, token: bytes = TOKEN) -> str:
    """Who a token is, or the status that it is refused with."""
    try:
        return (await introspection.ask(token)).principal.subject
    except GatewayError as error:
        return str(error.status)


def only(answer: object, **options: Any) -> str:
    """What becomes of one token after one answer."""

    async def main() -> str:
        return await verdict(asker(Source(answer), **options))

    return run(main())


# What an answer means


def test_an_active_token() -> None:
    """Who it is, with scopes and the moment at which it ends."""

    async def main() -> None:
        found = await asker(Source({**ACTIVE, "jti": "t-1", "iat": NOW - 5})).ask(TOKEN)
        assert found.principal.scopes == {"read", "write"}
        assert found.principal.block == b"\r\nX-User-Id: 42\r\nX-User-Scopes: read,write"
        assert (found.expires, found.issued, found.token_id) == (NOW + 600, NOW - 5, "t-1")

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        {"active": False},
        {"active": False, "sub": "42", "exp": NOW + 600},
        {**ACTIVE, "exp": NOW},
        {**ACTIVE, "exp": NOW - 1},
        {**ACTIVE, "exp": "tomorrow"},
        {**ACTIVE, "exp": True},
        {**ACTIVE, "nbf": NOW + 1},
        {**ACTIVE, "sub": ""},
        {**ACTIVE, "sub": 42.0},
        {**ACTIVE, "sub": "a\nb"},
        {**ACTIVE, "sub": None},
        {"active": True},
        {"active": True, "exp": NOW + 600},
        {**ACTIVE, "type": "refresh"},
    ],
)
def test_nobody_that_can_be_let_in(answer: object) -> None:
    """Not active, at its end, or without anything to call it by: 401."""
    assert only(answer) == "401"


def test_a_name_instead_of_a_subject() -> None:
    """RFC 7662, 2.2: `sub` need not be there; `username` stands for it then, and only then."""
    assert only({"active": True, "username": "ann", "exp": NOW + 600}) == "ann"
    assert only({"active": True, "username": "ann"}) == "ann"
    assert only({**ACTIVE, "username": "ann"}) == "42"
    assert only({**ACTIVE, "sub": None, "username": "ann"}) == "ann"
    assert only({**ACTIVE, "sub": "", "username": "ann"}) == "401"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"active": "true"},
        {"active": 1},
        {"active": None},
        [ACTIVE],
        b"",
        b"null",
        b"<html>",
        b'{"active": true, "active": false, "sub": "42"}',
        b"[" * 50_000,
        b"\xff",
        said(ACTIVE, 201),
        said(ACTIVE, 400),
        said(ACTIVE, 401),
        said(ACTIVE, 403),
        said(ACTIVE, 500),
        Fetched(302, b"\r\nLocation: http://evil.test", b""),
        Fetched(204, b"", b""),
        ConnectFailed("refused"),
        UpstreamTimeout("late"),
        BadResponse("too large"),
        StaleConnection("gone"),
        ServiceUnavailable("all connections in use"),
    ],
)
def test_nobody_can_tell(answer: object) -> None:
    """An answer that is none: 503, and never a way in; it is not remembered."""

    async def main() -> None:
        source = Source(answer)
        introspection = asker(source)
        for _ in range(2):
            assert await verdict(introspection) == "503"
        assert source.asked == [TOKEN, TOKEN]
        source.says = ACTIVE
        assert await verdict(introspection) == "42"

    run(main())


@pytest.mark.parametrize(
    "more", [{}, {"aud": "other"}, {"iss": "https://a"}, {"iss": "https://b", "aud": "api"}]
)
@pytest.mark.parametrize("exp", [{"exp": NOW + 600}, {}])
def test_issuer_and_audience_hold(more: dict[str, str], exp: dict[str, float]) -> None:
    """A token for somebody else, or of somebody else, is not let in, whether it says its end or not."""
    rules = Rules(issuers=frozenset({"https://a"}), audiences=frozenset({"api"}))
    assert only({"active": True, "sub": "42", **exp, **more}, rules=rules) == "401"
    fine = {"active": True, "sub": "42", **exp, "iss": "https://a", "aud": ["x", "api"]}
    assert only(fine, rules=rules) == "42"


@pytest.mark.parametrize("claim", [{"nbf": NOW + 60}, {"iat": NOW + 60}, {"type": "refresh"}])
@pytest.mark.parametrize("exp", [{"exp": NOW + 600}, {}])
def test_what_else_is_said_holds(claim: dict[str, object], exp: dict[str, float]) -> None:
    """Not yet, or no access token: refused, whether it says its end or not."""
    assert only({"active": True, "sub": "42", **exp, **claim}) == "401"


# For how long


def test_an_answer_is_remembered_for_a_while() -> None:
    """Until then nobody asks again, about a bad token neither; then everybody is asked again."""

    async def main() -> None:
        wall, source = Wall(), Source(lambda token: {"active": token == TOKEN, **rest})
        rest = {name: value for name, value in ACTIVE.items() if name != "active"}
        introspection = asker(source, clock=wall)
        for _ in range(3):
            assert await verdict(introspection) == "42"
            assert await verdict(introspection, b"bad") == "401"
        assert source.asked == [TOKEN, b"bad"]
        wall.now = NOW + TTL - 0.001
        assert await verdict(introspection) == "42"
        assert len(source.asked) == 2
        wall.now = NOW + TTL
        source.says = {"active": False}
        assert await verdict(introspection) == "401"
        assert source.asked == [TOKEN, b"bad", TOKEN]

    run(main())


def test_never_beyond_its_end() -> None:
    """A remembered token is refused from its `exp` on."""

    async def main() -> None:
        wall, source = Wall(), Source({**ACTIVE, "exp": NOW + 10})
        introspection = asker(source, clock=wall)
        assert await verdict(introspection) == "42"
        wall.now = NOW + 9.999
        assert await verdict(introspection) == "42"
        wall.now = NOW + 10
        assert await verdict(introspection) == "401"

    run(main())


@pytest.mark.parametrize("exp", [{"exp": NOW + 600}, {}])
def test_nothing_is_remembered_where_the_operator_says_so(exp: dict[str, float]) -> None:
    """`cache: 0s` asks each time, and believes the answer, whether it says the token's end or not."""

    async def main() -> None:
        source = Source({"active": True, "sub": "42", **exp})
        introspection = asker(source, ttl=0.0)
        assert [await verdict(introspection) for _ in range(3)] == ["42"] * 3
        assert len(source.asked) == 3

    run(main())


def test_a_token_without_an_end_is_asked_about_again() -> None:
    """When what is remembered is over it is asked about, and never refused without having been."""

    async def main() -> None:
        ticks = [NOW]

        def clock() -> float:
            # Real clocks go on between two looks.
            ticks[0] += 0.001
            return ticks[0]

        source = Source({"active": True, "sub": "42"})
        introspection = asker(source, clock=clock, ttl=1.0)
        verdicts = [await verdict(introspection) for _ in range(3000)]
        assert set(verdicts) == {"42"}
        assert 3 <= len(source.asked) <= 10

    run(main())


# How often somebody is asked


def test_one_question_for_many() -> None:
    """However many requests bring a token at the same time, one asks."""

    async def main() -> None:
        source = Source(ACTIVE)
        source.gate.clear()
        introspection = asker(source, ttl=0.0)
        waiting = [asyncio.create_task(verdict(introspection)) for _ in range(50)]
        other = asyncio.create_task(verdict(introspection, b"other"))
        await asyncio.sleep(1)
        assert source.asked == [TOKEN, b"other"]
        source.gate.set()
        assert [await one for one in waiting] == ["42"] * 50
        assert await other == "42"
        assert introspection._in_flight == {}

    run(main())


def test_one_failure_for_many() -> None:
    """All of them are told, and the next one asks anew."""

    async def main() -> None:
        source = Source(ConnectFailed("refused"))
        source.gate.clear()
        introspection = asker(source)
        waiting = [asyncio.create_task(verdict(introspection)) for _ in range(5)]
        await asyncio.sleep(1)
        source.gate.set()
        assert [await one for one in waiting] == ["503"] * 5
        assert introspection._in_flight == {}
        assert source.asked == [TOKEN]

    run(main())


@pytest.mark.parametrize("answer", [ACTIVE, ConnectFailed("refused")])
def test_whoever_leaves_takes_nothing_from_the_others(answer: object) -> None:
    """The first one asks and leaves; the second gets the answer; when all have left it is remembered."""

    async def main() -> None:
        source = Source(answer)
        source.gate.clear()
        introspection = asker(source)
        first, second, third = (asyncio.create_task(verdict(introspection)) for _ in range(3))
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.sleep(1)
        third.cancel()
        source.gate.set()
        expected = "42" if answer is ACTIVE else "503"
        assert await second == expected
        assert first.cancelled()
        assert third.cancelled()
        # And with nobody left who waits.
        source.gate.clear()
        last = asyncio.create_task(verdict(introspection, b"other"))
        await asyncio.sleep(1)
        last.cancel()
        source.gate.set()
        await asyncio.sleep(1)
        assert introspection._in_flight == {}
        assert await verdict(introspection, b"other") == expected
        assert source.asked.count(b"other") == (1 if answer is ACTIVE else 2)

    run(main())


def test_a_token_is_remembered_by_its_whole_self() -> None:
    """No other token gets its answer, however alike."""

    async def main() -> None:
        source = Source(lambda token: {**ACTIVE, "active": token == TOKEN})
        introspection = asker(source)
        assert await verdict(introspection) == "42"
        for other in (TOKEN + b"=", TOKEN[:-1], TOKEN.lower(), TOKEN.upper(), b""):
            assert await verdict(introspection, other) == "401"

    run(main())


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes tokens up pushes out what was remembered, and holds no memory."""
    monkeypatch.setattr(module, "_MAX_CACHED", 10)

    async def main() -> None:
        source = Source({"active": False})
        introspection = asker(source)
        for number in range(100):
            assert await verdict(introspection, b"made-up-%d" % number) == "401"
        assert (len(introspection._refused), len(introspection._active)) == (10, 0)
        assert introspection._in_flight == {}

    run(main())


@given(st.binary(max_size=200))
def test_no_answer_is_a_bug(body: bytes) -> None:
    """Whatever a source says, it is 401 or 503, and nobody gets in."""
    assert only(said(body)) in ("401", "503")


@pytest.mark.parametrize(
    "answer", [ACTIVE, {"active": True, "sub": "s3cret\n"}, {}, ConnectFailed("refused")]
)
def test_nothing_of_the_token_is_said(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the log nor an error holds it, nor does what is kept."""

    async def main() -> None:
        introspection = asker(Source(answer))
        text = ""
        try:
            await introspection.ask(TOKEN)
        except (AuthError, ServiceUnavailable) as error:
            text = f"{error} {error.reason} {error.headers} {error.details} {error.__cause__!r}"
        assert TOKEN.decode() not in text + caplog.text
        assert "s3cret" not in text + caplog.text
        kept = (*introspection._active._entries, *introspection._refused._entries)
        assert all(TOKEN not in key for key in kept)

    with caplog.at_level(logging.DEBUG):
        run(main())


def test_a_team_is_told_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    """An active token that cannot be let in is a matter of configuration: the log says why."""
    assert only({"active": True, "exp": NOW + 600}) == "401"
    assert "an active token is refused: its sub is missing" in caplog.text
