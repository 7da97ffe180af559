"""When something answers in place of a service that has failed, and what that may do with a request."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import (
    BadResponse,
    CertificateRejected,
    CircuitOpen,
    ClientGone,
    ConnectFailed,
    ConnectTimeout,
    GatewayError,
    InternalError,
    LocalFault,
    NoInstance,
    Overloaded,
    PayloadTooLarge,
    ServiceUnavailable,
    UpstreamBusy,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.proxy.exchange import Exchange
from propylon.proxy.fallback import Fallback, Other
from propylon.proxy.forward import settle
from propylon.services.retry import Retry
from propylon.upstream.pool import IDEMPOTENT
from propylon.upstream.ports import Answer
from tests.proxy.doubles import STILL, Asked, Client, Upload, request, route, run, service, whole
from tests.support.examples import examples

# What each failure is called; "" has no fallback, whatever `on` says.
KINDS: dict[type[GatewayError], str] = {
    CircuitOpen: "open-circuit",
    NoInstance: "unavailable",
    UpstreamBusy: "unavailable",
    Overloaded: "unavailable",
    ConnectFailed: "connect-failure",
    ConnectTimeout: "connect-failure",
    CertificateRejected: "connect-failure",
    UpstreamReset: "reset",
    BadResponse: "bad-response",
    UpstreamTimeout: "timeout",
    LocalFault: "",
    ServiceUnavailable: "",
    PayloadTooLarge: "",
    ClientGone: "",
    InternalError: "",
}
failures = st.sampled_from([*KINDS, 502, 503, 404])
methods = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"])
triggers = st.sets(st.sampled_from([*{*KINDS.values()} - {""}, 502, 503, 404]))


@examples(300)
@given(failures, methods, triggers, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_what_answers(
    failure: type[GatewayError] | int,
    method: str,
    on: set[str | int],
    non_idempotent: bool,
    replayable: bool,
    has_fixed: bool,
    has_other: bool,
) -> None:
    """Only what `on` names has a fallback; another service gets only what does no harm there; else all is as without one."""
    first = whole(failure) if isinstance(failure, int) else failure("the first")
    asked = [0 if failure in (CircuitOpen, NoInstance, Overloaded) else 1]
    counted: list[tuple[str, ...]] = []

    async def then(exchange: Exchange, *_: object) -> Answer:
        exchange.attempts = asked[0]
        if isinstance(first, GatewayError):
            raise first
        return first

    async def fixed(*_: object) -> Answer:
        return whole(200, b"fixed")

    there = Asked(whole(200, b"other"))
    other = service(there, name="other")
    kinds = frozenset(one for one in on if isinstance(one, str))
    statuses = frozenset(one for one in on if isinstance(one, int))
    stage = Fallback(
        then, kinds, statuses, None,
        fixed if has_fixed else None,
        Other(lambda known: replace(known, service=other), STILL) if has_other else None,
        settle, lambda *what: counted.append(what), lambda: 1.0,
    )  # fmt: skip
    main = route(of=service(Asked(), retry=Retry(non_idempotent=non_idempotent)))
    body = Upload(b"abc", replayable=replayable) if method in ("POST", "PUT") else None
    exchange = Exchange(None, Client(body), b"0" * 80, 0.0)
    exchange.route = main
    got: object
    try:
        got = run(stage(exchange, request(b"/a", method=method.encode()), main))
    except GatewayError as error:
        got = error

    word = str(failure) if isinstance(failure, int) else KINDS[failure]
    named = failure in on if isinstance(failure, int) else word in on
    unsent = asked[0] == 0 or (isinstance(first, GatewayError) and first.unsent)
    harmless = (body is None or replayable) and (unsent or non_idempotent or method in IDEMPOTENT)
    by = ""
    if named:
        by = "service" if has_other and harmless else "fixed" if has_fixed else ""
    assert counted == ([(main.name, "orders", word, by)] if by else [])
    assert len(there.got) == (by == "service")
    if by:
        assert isinstance(got, type(whole()))
        assert got.body == (b"other" if by == "service" else b"fixed")
        assert exchange.error is None
        assert exchange.stand_in is not None
    else:
        assert got is first
        assert exchange.stand_in is None


def test_a_stage_is_known_by_what_it_was_made_of() -> None:
    """So a route is kept over a reload that changes nothing of it."""

    def made(basis: object) -> Fallback:
        return Fallback(
            STILL, frozenset(), frozenset(), None, None, None, settle, print, float, basis
        )

    assert made(("a", 1)) == made(("a", 1))
    assert made(("a", 1)) != made(("a", 2))
    assert made(("a", 1)) != 7
