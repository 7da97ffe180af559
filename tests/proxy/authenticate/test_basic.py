"""Names and passwords: who is let in, what an attempt costs, how often one may fail, and what is remembered."""

import asyncio
import base64
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import AuthError, RateLimited, ServiceUnavailable
from propylon.proxy.authenticate import basic as module
from propylon.proxy.authenticate import guesses
from propylon.proxy.authenticate.basic import BasicAuth, Logins, Means
from propylon.proxy.authenticate.guesses import Guesses
from propylon.wire.message import Request
from propylon.wire.request import parse_request

T = TypeVar("T")
HOME, OFFICE = "192.0.2.7", "198.51.100.7"


@dataclass
class Costly:
    """Compares as a hash would: a password matches the hash `of PASSWORD`. Counts how often."""

    asked: list[tuple[bytes, str]] = field(default_factory=list)
    busy: bool = False
    gate: asyncio.Event | None = None

    async def matches(self, password: bytes, known: str) -> bool:
        """Tell whether they fit."""
        self.asked.append((password, known))
        if self.gate is not None:
            await self.gate.wait()
        if self.busy:
            raise ServiceUnavailable("busy")
        return known == f"of {password.decode()}"


class Api:
    """The users of a file, and a clock."""

    def __init__(self, users: dict[str, str] | None = None) -> None:
        self.hashing = Costly()
        self.slept: list[float] = []
        self.now = 0.0
        self.means = Means(self.hashing, Guesses(lambda: self.now), b"k" * 32, self.sleep)
        self.logins = Logins(users or {"ann": "of horse", "bob": "of staple"}, "Team", self.means)

    async def sleep(self, seconds: float) -> None:
        """Note how long."""
        self.slept.append(seconds)

    def request(self, *sent: bytes) -> Request:
        """Return a request with these Authorization headers."""
        lines = b"".join(b"Authorization: %b\r\n" % one for one in sent)
        return parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n" % lines)

    async def ask(self, pair: str, client: str = HOME) -> str:
        """Return who is let in with a name and a password, or the status of the refusal."""
        sent = b"Basic " + base64.b64encode(pair.encode("utf-8", "surrogateescape"))
        try:
            principal = await self.logins.principal(self.request(sent), client)
        except (AuthError, RateLimited, ServiceUnavailable) as error:
            return str(error.status)
        return principal.subject


def done(work: Coroutine[Any, Any, T]) -> T:
    """Run it."""
    return asyncio.run(work)


def test_a_right_password_is_hashed_once() -> None:
    """The second request of a user costs no hash; another password of the same user does."""
    api = Api()

    async def main() -> list[str]:
        pairs = ("ann:horse", "ann:horse", "ann:Horse", "ann:horse", "bob:staple", "bob:horse")
        return [await api.ask(pair) for pair in pairs]

    assert done(main()) == ["ann", "ann", "401", "ann", "bob", "401"]
    assert len(api.hashing.asked) == 4


def test_many_at_once_are_one_attempt() -> None:
    """A page and its pictures: one hash, no refusal; a client that leaves does not cancel the others."""
    api = Api()

    async def main() -> list[str]:
        api.hashing.gate = asyncio.Event()
        waiting = [asyncio.ensure_future(api.ask("ann:horse")) for _ in range(30)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        api.hashing.gate.set()
        return await asyncio.gather(*waiting[1:])

    assert set(done(main())) == {"ann"}
    assert len(api.hashing.asked) == 1
    assert not api.logins._in_flight


def test_a_name_that_is_not_there_costs_the_same() -> None:
    """It is held against a hash of the file, for the same name always the same one, and never let in by it."""
    api = Api()

    async def main() -> list[str]:
        return [await api.ask(f"{name}:{word}") for name in "cde" for word in ("horse", "staple")]

    assert done(main()) == ["401"] * 6
    against = [known for _, known in api.hashing.asked]
    assert against[0::2] == against[1::2]
    assert set(against) <= {"of horse", "of staple"}


def test_too_many_failures() -> None:
    """Of a name from an address: 429 and no hash, and others are let in; over when the window is over."""
    api = Api()

    async def main() -> None:
        for _ in range(guesses._MOST):
            assert await api.ask("ann:wrong") == "401"
        hashed = len(api.hashing.asked)
        assert await api.ask("ann:horse") == "429"
        assert len(api.hashing.asked) == hashed
        assert await api.ask("bob:staple") == "bob"
        assert await api.ask("ann:horse", OFFICE) == "ann"
        assert await api.ask("ann:horse") == "ann"  # the password is remembered, whoever brings it
        api.now += guesses._WINDOW + 1
        assert await api.ask("ann:wrong again") == "401"

    done(main())
    assert api.slept
    assert max(api.slept) <= guesses._LONGEST


def test_a_list_of_names_ends_at_the_address() -> None:
    """An address that tries ever new names is refused as well; whoever has logged in goes on."""
    api = Api()

    async def main() -> None:
        assert await api.ask("bob:staple") == "bob"
        for number in range(guesses._MOST_OF_ADDRESS):
            assert await api.ask(f"user{number}:wrong") == "401"
        assert await api.ask("ann:horse") == "429"
        assert await api.ask("bob:staple") == "bob"
        assert await api.ask("ann:horse", OFFICE) == "ann"

    done(main())


def test_a_refusal_by_the_threads_is_no_failed_login() -> None:
    """503, and the next attempt is looked at."""
    api = Api()

    async def main() -> list[str]:
        api.hashing.busy = True
        first = await api.ask("ann:horse")
        api.hashing.busy = False
        return [first, await api.ask("ann:horse")]

    assert done(main()) == ["503", "ann"]


def encoded(pair: bytes) -> bytes:
    """Return credentials."""
    return b"Basic " + base64.b64encode(pair)


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [b"Basic"],
        [b"Basic "],
        [b"Basic ann:horse"],
        [b"Bearer YW5uOmhvcnNl"],
        [encoded(b"ann")],
        [encoded(b":horse")],
        [encoded(b"a\0nn:horse")],
        [encoded(b"ann:ho\0rse")],
        [encoded(b"ann:ho\rrse")],
        [encoded(b"ann:\xff")],
        [encoded(b"\xff:horse")],
        [encoded(b"ann:horse"), encoded(b"ann:horse")],
        [b"Basic " + base64.b64encode(b"ann:" + b"x" * 4096)],
        [b"Basic YW5uOmhvcnNl YW5u"],
        [b"Basic YW5uOmhvcnN"],
    ],
)
def test_malformed_credentials_cost_nothing(sent: list[bytes]) -> None:
    """401 with the challenge, and no hash."""
    api = Api()
    with pytest.raises(AuthError) as caught:
        done(api.logins.principal(api.request(*sent), HOME))
    assert caught.value.headers == ((b"WWW-Authenticate", b'Basic realm="Team", charset="UTF-8"'),)
    assert not api.hashing.asked


@given(st.binary(max_size=64))
def test_any_bytes_are_somebody_or_refused(sent: bytes) -> None:
    """Nothing else is raised, and a password with a colon in it is whole."""
    found = module._credentials(encoded(sent))
    if found is not None:
        name, password = found
        assert name.encode() + b":" + password == sent
        assert ":" not in name


@pytest.mark.parametrize("spelling", [b"basic ", b"BASIC   "])
def test_the_scheme_in_any_case(spelling: bytes) -> None:
    """RFC 9110, 11.1; the name goes to the service in the header that was chosen, beside other headers."""
    api = Api()
    stage = BasicAuth(api.logins, "X-Remote-User")
    request = api.request(spelling + base64.b64encode(b"ann:horse"))
    request.set_header("X-Other", "1")
    principal = done(stage(request, HOME))
    assert (principal.subject, principal.block) == ("ann", b"")
    assert principal.caller == "ann\nbasic_auth:Team"
    assert request.vouched == {
        b"x-other": (b"X-Other", b"1"),
        b"x-remote-user": (b"X-Remote-User", b"ann"),
    }
