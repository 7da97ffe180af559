"""A caller stays with its instance, or with its service."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import UpstreamBusy
from propylon.proxy.exchange import Exchange
from propylon.proxy.select import ByKey
from propylon.proxy.split import Part, Shares
from propylon.proxy.sticky import Cookie, StickyInstance
from propylon.services.breaker import Breaker, Circuit
from propylon.services.fleet import Ejection
from propylon.services.hashing import Rendezvous
from propylon.services.retry import Retry
from propylon.services.service import Service
from tests.proxy.attempts import AT_ONCE, DOWN, Told, Up, of, told
from tests.proxy.doubles import Client, request, route, service, whole
from tests.support.examples import examples

KEY, OLD = b"k" * 32, b"o" * 32
AT = Cookie("at", [KEY])
ONCE = Retry(attempts=1)


def sticking(to: Service, *, refuses: bool = False, cookie: Cookie = AT) -> StickyInstance:
    """What keeps the callers of a service."""
    return StickyInstance(to, cookie, refuses)


def asked(to: Service, value: str = "", *, select: Any = None, **options: Any) -> Told:
    """One request of a caller with that cookie."""
    lines = (b"Cookie: a=1; at=" + value.encode(),) if value else ()
    select = select or sticking(to, **options)
    return told(route(of=to, select=select), lines=lines)


def set_cookie(of_caller: Told) -> str:
    """The line that the answer sets the cookie by, without the name; empty if there is none."""
    _, mark, rest = of_caller.exchange.lines.partition(b"\r\nSet-Cookie: at=")
    assert rest.count(b"Set-Cookie") == 0
    return rest.split(b"\r\n")[0].decode() if mark else ""


def value(of_caller: Told) -> str:
    """The value that it is set to."""
    return set_cookie(of_caller).partition(";")[0]


def name(of_caller: Told) -> str:
    """The instance that was asked last."""
    instance = of_caller.exchange.instance
    return "" if instance is None else instance.id


def test_a_caller_stays() -> None:
    """The first answer sets the cookie, later ones do not, and the other instance is not asked."""
    to = of(Up(), Up(), choose=lambda some: some[-1])
    first = asked(to)
    assert set_cookie(first).endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert len(value(first)) == 32
    to = of(Up(), Up())  # another worker, which would choose the first one
    again = asked(to, value(first))
    assert (name(first), name(again), set_cookie(again)) == ("two:80", "two:80", "")


def test_a_cookie_tells_nothing_and_is_not_made_up() -> None:
    """No address is in it; what another key has signed, or nobody, counts as none."""
    to = of(Up(), Up())
    good = value(asked(to))
    for bad in ("one:80", good[:-1], good + "A", good[:-1] + "!", "A" * 32, good[::-1], "=" * 32):
        fresh = asked(to, bad, refuses=True)
        assert (fresh.status, value(fresh)) == (200, good)
    assert value(asked(to, cookie=Cookie("at", [OLD]))) != good
    assert asked(to, good, cookie=Cookie("at", [OLD]), refuses=True).status == 200


@given(st.binary(max_size=40))
@examples(60)
def test_any_bytes_are_no_cookie(sent: bytes) -> None:
    """Whatever a client writes there."""
    line = b"Cookie: at=" + bytes(byte for byte in sent if byte >= 32 and byte != 127)
    assert AT.read(request(b"/a", line)) is None


def test_secrets_rotate() -> None:
    """A cookie of the old secret holds, and is set anew by the new one."""
    to = of(Up(), Up())
    old = value(
        asked(
            to,
            cookie=Cookie("at", [OLD]),
            select=sticking(of(Up(), Up()), cookie=Cookie("at", [OLD])),
        )
    )
    both = Cookie("at", [KEY, OLD])
    renewed = asked(to, old, cookie=both)
    assert name(renewed) == "one:80"
    assert value(renewed) == value(asked(to))
    assert set_cookie(asked(to, value(renewed), cookie=both)) == ""


def test_an_ejected_instance_is_left() -> None:
    """The caller gets another one, and its cookie; `refuse` answers 503 and keeps the cookie."""
    rules = {"retry": ONCE, "ejection": Ejection(failures=1)}
    to = of(Up(whole(500)), Up(), **rules)
    first = asked(to)
    assert (first.status, name(first)) == (500, "one:80")
    refused = asked(to, value(first), refuses=True)
    assert (refused.status, set_cookie(refused)) == (503, "")
    again = asked(to, value(first))
    assert (again.status, name(again)) == (200, "two:80")
    assert name(asked(to, value(again))) == "two:80"


def test_an_instance_that_is_gone() -> None:
    """`refuse` says so once, and takes the cookie away."""
    to = of(Up(), Up())
    first = asked(to)
    to.fleet.remove(to.instances[0])
    refused = asked(to, value(first), refuses=True)
    assert refused.status == 503
    assert set_cookie(refused) == "; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
    assert name(asked(to, value(first))) == "two:80"


def test_a_retry_goes_elsewhere_and_takes_the_cookie_along() -> None:
    """The cookie names the instance that has answered, once."""
    to = of(Up(whole(), DOWN), Up(), retry=AT_ONCE)
    first = asked(to)
    again = asked(to, value(first))
    assert (again.status, again.exchange.attempts, name(again)) == (200, 2, "two:80")
    assert name(asked(to, value(again))) == "two:80"
    fresh = asked(of(Up(DOWN), Up(), retry=AT_ONCE))
    assert (name(fresh), value(fresh)) == ("two:80", value(again))


def test_a_retry_stays_where_no_other_may_be_asked() -> None:
    """With `refuse`, the same instance is asked again; and once only if it has no room."""
    one = Up(whole(), whole(503), whole(201))
    to = of(one, Up(), retry=AT_ONCE)
    first = asked(to)
    again = asked(to, value(first), refuses=True)
    assert (again.status, name(again), len(one.asked)) == (201, "one:80", 3)
    full = Up(UpstreamBusy("in use"))
    busy = asked(of(full, Up(), retry=AT_ONCE), value(first), refuses=True)
    assert (busy.status, len(full.asked)) == (503, 1)


def test_new_callers_go_by_the_hash() -> None:
    """And stay, whatever their key becomes."""
    to = of(Up(), Up(), choose=lambda some: 1 / 0)
    keyed = ByKey(lambda asked, *_: asked.query.decode(), Rendezvous())
    select = StickyInstance(to, AT, False, keyed)
    first = asked(to, select=select)
    assert name(first) == Rendezvous().choose("", to.instances).id
    assert set_cookie(asked(to, value(first), select=select)) == ""


def test_attributes() -> None:
    """Secure by https, or always; and how long it is kept."""

    def line(cookie: Cookie, scheme: str) -> bytes:
        client = Client()
        client.origin = replace(client.origin, scheme=scheme)
        exchange = Exchange(request(), client, b"0" * 80, 0.0)
        exchange.lines = b"\r\nX-A: 1"
        for what in ("one", "two", "one"):
            cookie.put(exchange, what)
        assert exchange.lines.startswith(b"\r\nX-A: 1\r\nSet-Cookie: at=")
        assert exchange.lines.count(b"\r\n") == 2
        return exchange.lines.partition(b";")[2]

    assert line(Cookie("at", [KEY], attributes="; Path=/x"), "https") == b" Path=/x; Secure"
    kept = Cookie("at", [KEY], attributes="; Path=/", max_age=60.0, secure=True)
    assert line(kept, "http") == b" Path=/; Max-Age=60; Secure"
    assert line(Cookie("at", [KEY], attributes="; Path=/", secure=False), "https") == b" Path=/"


# With `split`


def broken(of_service: Service) -> Breaker:
    """A breaker that is open."""
    made = Breaker(of_service, Circuit(), clock=lambda: 0.0, wall=lambda: 0.0, listener=lambda *_: None)  # type: ignore[arg-type]
    made.force_open("a test")
    return made


def shares(*services: Service, refuses: bool = False) -> Shares:
    """As many for each."""
    return Shares([Part(route(of=one), 1) for one in services], AT, refuses=refuses)


def given_to(among: Shares, value: str = "") -> tuple[str, str]:
    """The service that a caller with that cookie gets, and the value that is set."""
    asking = request(b"/a", *([b"Cookie: at=" + value.encode()] if value else []))
    exchange = Exchange(asking, Client(), b"0" * 80, 0.0)
    chosen = among.choose(exchange, asking).service.name
    return chosen, exchange.lines.partition(b"=")[2].partition(b";")[0].decode()


def test_a_caller_stays_with_its_service() -> None:
    """Whosever turn it is, also where the service gets no new callers any more."""
    among = shares(service(Up(), name="a"), service(Up(), name="b"))
    (first, cookie), (other, _) = given_to(among), given_to(among)
    assert {first, other} == {"a", "b"}
    assert [given_to(among, cookie) for _ in range(3)] == [(first, "")] * 3
    leaving = Shares(
        [Part(route(of=service(Up(), name=name)), int(name != first)) for name in "ab"], AT
    )
    assert given_to(leaving, cookie) == (first, "")
    assert {given_to(leaving)[0] for _ in range(3)} == {other}


@pytest.mark.parametrize("sick", ["broken", "empty"])
def test_a_service_that_cannot_be_asked(sick: str) -> None:
    """The caller gets another one, unless it must not, or there is none; callers without a cookie go by the weights."""
    ill = service(
        *([Up()] if sick == "broken" else []),
        name="a",
        breaker=broken("a") if sick == "broken" else None,
    )
    well = service(Up(), name="b")
    _, cookie = given_to(shares(service(Up(), name="a")))
    again, other = given_to(shares(ill, well), cookie)
    assert again == "b"
    assert given_to(shares(ill, well), other) == ("b", "")
    assert given_to(shares(ill, well, refuses=True), cookie) == ("a", "")
    assert given_to(shares(ill), cookie) == ("a", "")
    among = shares(ill, well)
    assert {given_to(among)[0] for _ in range(2)} == {"a", "b"}


def test_a_route_that_ignores_the_breaker() -> None:
    """Goes on asking the service."""
    ill = service(Up(), name="a", breaker=broken("a"))
    _, cookie = given_to(shares(service(Up(), name="a")))
    among = Shares(
        [Part(route(of=ill, circuit=False), 1), Part(route(of=service(Up(), name="b")), 1)], AT
    )
    assert given_to(among, cookie) == ("a", "")
