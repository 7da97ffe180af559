"""Nobody ever gets an answer that an uncached gateway would not have given them, but for its age.

The upstream's answer is what it read of the request: all that the gateway sends, less what it does not look at. If a stored
answer differs from what the upstream would say to this very request, somebody's answer went to somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.cache.stage import CacheStage
from propylon.proxy.exchange import Exchange
from propylon.proxy.principal import ANONYMOUS, Principal
from propylon.upstream.ports import Answer
from propylon.wire.headers import fields
from propylon.wire.message import Request
from tests.proxy.cache.world import World, answer


def holder(subject: str, issuer: str, scope: str, **more: Any) -> Principal:
    """Who has a token: a new object each time, as for each token."""
    block = f"\r\nX-User-Id: {subject}\r\nX-User-Scopes: {scope}\r\nX-User-Issuer: {issuer}"
    claims = {"sub": subject, "iss": issuer, "scope": scope, **more}
    return Principal(subject, "", {scope}, set(), claims, block.encode(), issuer)


callers = st.builds(
    holder,
    st.sampled_from(["ann", "bob"]),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["read", "write"]),
    exp=st.integers(0, 3),
    jti=st.integers(0, 3),
    tenant=st.sampled_from(["a", "b"]),
)
VARYING = ("Accept", "Accept-Language", "User-Agent")
UNNAMED = (
    "Cookie",
    "Authorization",
    "X-Host",
    "X-Forwarded-Host",
    "X-Anything",
    "Origin",
    "X-Requested-With",
)
headers = st.dictionaries(
    st.sampled_from(VARYING + UNNAMED), st.sampled_from(["1", "2", "1, 2"]), max_size=4
)
controls = st.sampled_from(
    [
        "max-age=5",
        "max-age=5, public",
        "s-maxage=5",
        "no-cache",
        "private",
        "no-store",
        "",
        "max-age=1, stale-while-revalidate=9",
    ]
)


@dataclass
class Said:
    """How the upstream answers for now: which headers it looks at, what it says of storing, whether it sets a cookie."""

    control: str
    looks_at: frozenset[str]
    cookie: bool


answers = st.builds(
    Said, controls, st.frozensets(st.sampled_from(VARYING), max_size=2), st.booleans()
)
steps = st.lists(
    st.tuples(
        st.one_of(st.just(ANONYMOUS), callers),
        headers,
        st.sampled_from([b"GET", b"GET", b"GET", b"HEAD", b"POST"]),
        st.sampled_from([b"/a", b"/b", b"/a?q=1", b"/%61"]),
        st.integers(0, 4),
    ),
    min_size=2,
    max_size=14,
)


def computed(said: Said, principal: Principal, request: Request) -> bytes:
    """What the upstream makes of a request."""
    sent = {name.lower().decode(): value for name, value in fields(request.block)}
    names = [*sorted(said.looks_at), *UNNAMED]
    seen = [
        request.method.replace("HEAD", "GET").encode(),
        request.path,
        request.query,
        principal.block,
    ]
    # A bearer token itself is no answer's matter here: what it says is in the principal.
    seen += [sent.get(name.lower(), b"") for name in names]
    return b"|".join(seen)


@given(answers, steps, st.sampled_from(["caller"]))
def test_an_answer_is_what_the_upstream_would_say(said: Said, asked: list[Any], by: str) -> None:
    """Random callers (one subject with two scopes, two issuers, sessions in cookies), headers, methods and Vary."""

    def upstream(exchange: Exchange, request: Request) -> Answer:
        lines = [f"Cache-Control: {said.control}"] if said.control else []
        lines += [f"Vary: {', '.join(sorted(said.looks_at))}"] if said.looks_at else []
        lines += ["Set-Cookie: s=1"] if said.cookie else []
        return answer(computed(said, exchange.principal, request), *lines, 'ETag: "e"')

    world = World(upstream, by=by, ttl=3.0)
    assert isinstance(world.stage, CacheStage)
    for principal, sent, method, target, later in asked:
        world.timers.turn(later)
        lines = [f"{name}: {value}".encode() for name, value in sent.items()]
        before = len(world.asked)
        got, _ = world.ask(*lines, target=target, method=method, principal=principal)
        reference = computed(said, principal, _request(target, lines, method))
        assert got.body == reference
        if b"Set-Cookie" in got.head.block:
            assert len(world.asked) > before, "a cookie came out of the store"


def _request(target: bytes, lines: list[bytes], method: bytes) -> Request:
    from tests.proxy.doubles import request  # noqa: PLC0415 — the name is taken above

    return request(target, *lines, method=method)
