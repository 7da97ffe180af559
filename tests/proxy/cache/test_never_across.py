"""Nobody ever gets an answer that an uncached gateway would not have given them, but for its age.

The upstream's answer is what it read of the request: all that the gateway sends, less what it does not look at. If a stored
answer differs from what the upstream would say to this very request, somebody's answer went to somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propylon.proxy.cache.filling import Budget
from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.stores.answers.record import Codec
from propylon.stores.answers.shelves import Shelves, Tier
from propylon.upstream.ports import Answer
from propylon.wire.headers import fields
from propylon.wire.message import Request
from tests.proxy.cache.world import Upstream, World, answer
from tests.proxy.doubles import request
from tests.stores.answer_stores import SHARED, in_use, machine, redis
from tests.stores.redis.scripted import until
from tests.support.redis import running

T = TypeVar("T")


def holder(subject: str, issuer: str, scope: str, **more: Any) -> Principal:
    """Who has a token: a new object each time, as for each token."""
    block = f"\r\nX-User-Id: {subject}\r\nX-User-Scopes: {scope}\r\nX-User-Issuer: {issuer}"
    claims = {"sub": subject, "iss": issuer, "scope": scope, **more}
    return Principal(subject, "", {scope}, set(), claims, block.encode(), issuer)


VARYING = ("Accept", "Accept-Language", "User-Agent")
UNNAMED = (
    "Cookie",
    "Authorization",
    "X-Host",
    "X-Forwarded-Host",
    "X-Anything",
    "Origin",
    "X-Requested-With",
    "Api-Key",
    "PRIVATE-TOKEN",
    "DPoP",
)
WHO = {
    "subject": ("ann", "bob"),
    "issuer": ("one", "two"),
    "scope": ("read", "write"),
    "tenant": ("a", "b"),
}


@dataclass(frozen=True)
class Visitor:
    """Who asks, and with which headers."""

    who: tuple[tuple[str, str], ...] | None
    sent: tuple[tuple[str, str], ...]

    def principal(self, number: int) -> Principal:
        """The holder of a token; each token has an id of its own."""
        return ANONYMOUS if self.who is None else holder(**dict(self.who), jti=number)

    @property
    def lines(self) -> list[bytes]:
        """The header lines."""
        return [f"{name}: {value}".encode() for name, value in self.sent]


names = st.sampled_from([*WHO, *VARYING, *UNNAMED, "nobody"])


def neighbour(of: Visitor, other: str) -> Visitor:
    """The same visitor, but for one thing."""
    if other == "nobody":
        return Visitor(None, of.sent)
    if other in WHO:
        who = dict(of.who or ((name, values[0]) for name, values in WHO.items()))
        return Visitor(tuple({**who, other: WHO[other][1]}.items()), of.sent)
    return Visitor(of.who, tuple({**dict(of.sent), other: "other"}.items()))


visitors = st.builds(
    Visitor,
    st.sampled_from([None, tuple((name, values[0]) for name, values in WHO.items())]),
    st.dictionaries(st.sampled_from(VARYING + UNNAMED), st.just("1"), max_size=2).map(
        lambda sent: tuple(sent.items())
    ),
)
controls = st.sampled_from(
    [
        "max-age=5",
        "max-age=5, public",
        "s-maxage=5",
        "",
        "max-age=1, stale-while-revalidate=9",
        "no-cache",
        "private",
        "no-store",
    ]
)


@dataclass
class Said:
    """How the upstream answers for now: which headers it looks at, what it says of storing, whether it sets a cookie."""

    control: str
    looks_at: frozenset[str]
    cookie: bool


answers = st.builds(
    Said,
    controls,
    st.frozensets(st.sampled_from(VARYING), max_size=2),
    st.sampled_from([False, False, False, True]),
)
steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from([b"GET", b"GET", b"GET", b"GET", b"HEAD", b"POST"]),
        st.sampled_from([b"/a", b"/a", b"/a", b"/a?q=1", b"/%61"]),
        st.sampled_from([0, 0, 0, 1, 4]),
    ),
    min_size=3,
    max_size=10,
)


def computed(said: Said, principal: Principal, asked: Request) -> bytes:
    """What the upstream makes of a request."""
    sent = {name.lower().decode(): value for name, value in fields(asked.block)}
    seen = [
        asked.method.replace("HEAD", "GET").encode(),
        asked.path,
        asked.query,
        principal.block,
    ]
    # A bearer token itself is no answer's matter here: what it says is in the principal.
    seen += [sent.get(name.lower(), b"") for name in (*sorted(said.looks_at), *UNNAMED)]
    return b"|".join(seen)


def saying(said: Said) -> Upstream:
    """An upstream that answers so."""

    def upstream(exchange: Exchange, sent: Request) -> Answer:
        lines = [f"Cache-Control: {said.control}"] if said.control else []
        lines += [f"Vary: {', '.join(sorted(said.looks_at))}"] if said.looks_at else []
        lines += ["Set-Cookie: s=1"] if said.cookie else []
        return answer(computed(said, exchange.principal, sent), *lines, 'ETag: "e"')

    return upstream


def check(
    worlds: Sequence[World], said: Said, first: Visitor, one: str, two: str, asked: list[Any]
) -> None:
    """Visitors who differ in one thing (scope, issuer, session, any header), at one upstream, in any order, at any worker."""
    known = [first, neighbour(first, one), neighbour(first, two)]
    for number, (who, method, target, later) in enumerate(asked):
        for world in worlds:
            world.timers.turn(later)
        visitor, world = known[who], worlds[number % len(worlds)]
        principal = visitor.principal(number)
        before = len(world.asked)
        got, _ = world.ask(*visitor.lines, target=target, method=method, principal=principal)
        assert got.body == computed(said, principal, request(target, *visitor.lines, method=method))
        if b"Set-Cookie" in got.head.block:
            assert len(world.asked) > before, "a cookie came out of the store"


@settings(max_examples=settings().max_examples * 5)
@given(answers, visitors, names, names, steps)
def test_an_answer_is_what_the_upstream_would_say(
    said: Said, first: Visitor, one: str, two: str, asked: list[Any]
) -> None:
    """In the memory of a worker."""
    check([World(saying(said), ttl=3.0)], said, first, one, two, asked)


class Beside(World):
    """A worker that shares a store with others: what it does in the background it does after each request."""

    runner: asyncio.Runner

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop of the store."""
        got = self.runner.run(coroutine)
        while self.refreshed:
            self.runner.run(self.refreshing(self.refreshed.pop()))
        return got


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """The loop of the stores."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def shared(
    runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Sequence[Shelves]]]:
    """Each store that workers share, as two workers have it."""
    path = tmp_path_factory.mktemp("never") / "file"
    with running() as server, machine(path) as file, redis(runner, server, count=2) as (a, b):
        runner.run(until(lambda: all(in_use(one) for one in (a, b))))
        yield {"machine": (file, file), "redis": (a, b)}


@pytest.mark.parametrize("kind", SHARED)
def test_workers_and_machines_that_share_a_store(
    runner: asyncio.Runner, shared: dict[str, Sequence[Shelves]], kind: str
) -> None:
    """The same, with two of them in turn: what one has stored is what the other one's upstream would say."""
    place = count()

    @given(answers, visitors, names, names, steps)
    def in_turn(said: Said, first: Visitor, one: str, two: str, asked: list[Any]) -> None:
        mine = b"%d" % next(place)
        worlds = []
        for shelves in shared[kind]:
            world = Beside(saying(said), idle=True, place=mine, ttl=3.0)
            world.runner = runner
            codec = Codec(b"", world.timers.time, world.wall)
            world.share(Tier(shelves, codec, Budget(1_000_000)))
            worlds.append(world)
        check(worlds, said, first, one, two, asked)

    in_turn()


KNOWN = tuple((name, values[0]) for name, values in WHO.items())


@pytest.mark.parametrize("who", [None, KNOWN])
@pytest.mark.parametrize("other", [*WHO, *UNNAMED, "nobody"])
def test_each_thing_divides_the_answers(who: Any, other: str) -> None:
    """One after the other: visitors that differ in this alone, and an upstream that answers by it."""
    first = Visitor(who, (("Cookie", "1"),))
    second = neighbour(first, other)
    said = Said("max-age=5", frozenset(), cookie=False)

    def upstream(exchange: Exchange, sent: Request) -> Answer:
        return answer(computed(said, exchange.principal, sent), "Cache-Control: max-age=5")

    world = World(upstream)
    for visitor in (first, second, first, second):
        principal = visitor.principal(0)
        got, _ = world.ask(*visitor.lines, principal=principal)
        assert got.body == computed(said, principal, request(b"/a", *visitor.lines))
    assert len(world.asked) <= 2, "nothing was used again"


def test_vary_on_the_certificate_that_the_gateway_tells_of() -> None:
    """With `by: everyone` the certificate is in no key, but a service may vary on it."""

    class Secured(World):
        certificate = b""

        def exchange(self, principal: Principal = ANONYMOUS, **options: Any) -> Exchange:
            made = super().exchange(principal, **options)
            client: Any = made.downstream
            client.origin = replace(client.origin, certificate=self.certificate)
            return made

    def upstream(exchange: Exchange, sent: Request) -> Answer:
        block = exchange.downstream.origin.certificate
        return answer(block, "Cache-Control: max-age=5", "Vary: X-Client-Cert-Subject")

    world = Secured(upstream, by="everyone")
    for subject in (b"ann", b"bob", b"ann", b"bob"):
        world.certificate = b"\r\nX-Client-Cert-Subject: CN=" + subject
        assert world.ask()[0].body == world.certificate
    assert len(world.asked) == 2
