"""Following a source of keys: through rotation, outages, nonsense and floods."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Self

import pytest

from propylon.errors import (
    BadResponse,
    ConnectFailed,
    GatewayError,
    ServiceUnavailable,
    UpstreamTimeout,
)
from propylon.proxy.authenticate.jwks import COOL_DOWN, LONGEST_WAIT, PublishedKeys
from propylon.proxy.authenticate.verify import Verifier
from propylon.upstream.fetch import Fetched
from tests.proxy.authenticate.stand_in import NOW, verifier
from tests.support.jose import document, ec_jwk, es, es_key, rs, rsa_jwk, rsa_key, token
from tests.support.virtual import run

OLD, NEW = ec_jwk(es_key(), kid="old", alg="ES256"), rsa_jwk(rsa_key(), kid="new", alg="RS256")
ALGORITHMS = ["ES256", "RS256"]
CLAIMS = {"sub": "42", "exp": NOW + 60}
OF_OLD = token({"alg": "ES256", "kid": "old"}, CLAIMS, es(es_key()))
OF_NEW = token({"alg": "RS256", "kid": "new"}, CLAIMS, rs(rsa_key()))
DOWN = ConnectFailed("refused")


def published(*keys: object, status: int = 200) -> Fetched:
    """What a source answers that publishes these keys."""
    return Fetched(status, b"", document(*keys))


class Source:
    """A source that says what it is told to say, and writes down when it was asked."""

    def __init__(self, says: Fetched | GatewayError) -> None:
        self.says = says
        self.takes = 0.0  # seconds
        self.asked: list[float] = []
        self.at_once = 0
        self.most_at_once = 0

    async def fetch(self) -> Fetched:
        """Answer, after a while."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        loop = asyncio.get_running_loop()
        self.asked.append(loop.time())
        await asyncio.sleep(self.takes)
        self.at_once -= 1
        if isinstance(self.says, GatewayError):
            raise self.says
        return self.says

    def since(self, began: float) -> list[float]:
        """When it was asked, in seconds from then on."""
        return [round(at - began, 6) for at in self.asked]


class Followed:
    """Keys that follow a source, and a verifier that uses them."""

    def __init__(self, says: Fetched | GatewayError, *, start: bool = True) -> None:
        self.source = Source(says)
        self.keys = PublishedKeys(self.source.fetch, ALGORITHMS)
        self.verifier: Verifier = verifier(self.keys)
        self.keys.on_change = self.verifier.forget
        self.began = asyncio.get_running_loop().time()
        if start:
            self.keys.start()

    async def __aenter__(self) -> Self:
        await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.keys.close()
        await asyncio.sleep(0)
        assert self.source.most_at_once <= 1

    @property
    def times(self) -> list[float]:
        """When the source was asked, from the beginning on."""
        return self.source.since(self.began)

    async def verdict(self, sent: bytes) -> str:
        """What becomes of a token now: who it is, or the status."""
        try:
            return (await self.verifier.verify(sent)).principal.subject
        except GatewayError as error:
            return str(error.status)


def follow(
    says: Fetched | GatewayError, script: Callable[[Followed], Awaitable[None]], **options: bool
) -> None:
    """Follow a source in virtual time, while the script goes on."""

    async def main() -> None:
        async with Followed(says, **options) as followed:
            await script(followed)

    run(main())


def test_keys_are_there_soon() -> None:
    """Fetched once in the background; until then, nobody can tell, and it says what is missing."""

    async def script(followed: Followed) -> None:
        assert followed.keys.missing == "the key set that tokens are verified with"
        assert await followed.verdict(OF_OLD) == "503"
        followed.keys.start()
        followed.keys.start()  # twice is once
        assert await followed.verdict(OF_OLD) == "503"
        await asyncio.sleep(0.01)
        assert followed.keys.missing is None
        assert await followed.verdict(OF_OLD) == "42"
        assert len(followed.times) == 1

    follow(published(OLD), script, start=False)


def test_a_token_of_a_new_key_waits_for_it() -> None:
    """The first token of a new key has the set fetched and waits for it; tokens of the old key do not wait."""

    async def script(followed: Followed) -> None:
        await asyncio.sleep(60)
        followed.source.says = published(OLD, NEW)
        followed.source.takes = 1.0
        waiting = asyncio.gather(*(followed.verdict(OF_NEW) for _ in range(50)))
        await asyncio.sleep(0.5)
        late = asyncio.ensure_future(followed.verdict(OF_NEW))  # while the fetch is in flight
        assert await followed.verdict(OF_OLD) == "42"
        assert await waiting == ["42"] * 50
        assert await late == "42"
        assert followed.times == [0.0, 60.001]
        await asyncio.sleep(200)
        assert followed.times == [0.0, 60.001]

    follow(published(OLD), script)


def test_in_the_rest_of_the_cool_down_a_token_of_an_unknown_key_is_refused_at_once() -> None:
    """For five seconds after a fetch for an unknown key, no other one has the set fetched, nor waits."""

    async def script(followed: Followed) -> None:
        await asyncio.sleep(60)
        loop = asyncio.get_running_loop()
        assert await followed.verdict(OF_NEW) == "401"
        followed.source.says = published(OLD, NEW)
        began = loop.time()
        assert await followed.verdict(OF_NEW) == "401"
        assert loop.time() == began
        await asyncio.sleep(COOL_DOWN)
        assert await followed.verdict(OF_NEW) == "42"
        assert followed.times == [0.0, 60.001, 65.001]

    follow(published(OLD), script)


def test_it_does_not_wait_long_for_a_new_key() -> None:
    """A request waits two seconds for a slow source, and the set is there for the next one."""

    async def script(followed: Followed) -> None:
        loop = asyncio.get_running_loop()
        followed.source.says = published(OLD, NEW)
        followed.source.takes = 3.0
        began = loop.time()
        assert await followed.verdict(OF_NEW) == "401"
        assert loop.time() == began + LONGEST_WAIT
        await asyncio.sleep(1.5)
        assert await followed.verdict(OF_NEW) == "42"
        assert len(followed.times) == 2

    follow(published(OLD), script)


def test_the_client_that_started_a_fetch_leaves() -> None:
    """The others that wait for the same fetch get its answer."""

    async def script(followed: Followed) -> None:
        followed.source.says = published(OLD, NEW)
        followed.source.takes = 1.0
        first = asyncio.ensure_future(followed.verdict(OF_NEW))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(followed.verdict(OF_NEW))
        await asyncio.sleep(0.1)
        first.cancel()
        assert await second == "42"
        assert len(followed.times) == 2

    follow(published(OLD), script)


def test_a_withdrawn_key_ends() -> None:
    """A key that is no longer published verifies nothing, and no token of it is remembered."""

    async def script(followed: Followed) -> None:
        assert await followed.verdict(OF_OLD) == "42"
        followed.source.says = published(NEW)
        await asyncio.sleep(299)
        assert await followed.verdict(OF_OLD) == "42"
        await asyncio.sleep(2)
        assert await followed.verdict(OF_OLD) == "401"
        assert await followed.verdict(OF_NEW) == "42"
        assert followed.times[:2] == [0.0, 300.0]

    follow(published(OLD), script)


def test_a_flood_of_unknown_keys() -> None:
    """Whatever key ids are made up, the source is asked once in five seconds at the most."""

    async def script(followed: Followed) -> None:
        for number in range(1200):  # a minute
            forged = token({"alg": "ES256", "kid": f"made-up-{number}"}, CLAIMS, es(es_key()))
            assert await followed.verdict(forged) == "401"
            await asyncio.sleep(0.05)
        # The first one is the gateway's own, at the start.
        pauses = [b - a for a, b in zip(followed.times[1:], followed.times[2:], strict=False)]
        assert min(pauses) >= COOL_DOWN - 1e-6
        assert 11 <= len(followed.times) <= 14
        assert await followed.verdict(OF_OLD) == "42"

    follow(published(OLD), script)


def test_nobody_wants_new_keys() -> None:
    """A quiet source is asked every five minutes."""

    async def script(followed: Followed) -> None:
        for _ in range(10):
            assert await followed.verdict(OF_OLD) == "42"
            await asyncio.sleep(100)
        assert followed.times == [0.0, 300.0, 600.0, 900.0]

    follow(published(OLD), script)


def test_a_key_that_was_published_while_a_fetch_was_on_its_way() -> None:
    """A request joins the fetch that runs; if the key is not in its answer, the set is fetched once more."""

    async def script(followed: Followed) -> None:
        followed.source.takes = 1.0
        await asyncio.sleep(300)
        assert len(followed.times) == 2
        waiting = asyncio.ensure_future(followed.verdict(OF_NEW))
        await asyncio.sleep(0.9995)  # it has nearly answered, without the new key
        followed.source.takes = 0.5
        await asyncio.sleep(0.0005)
        followed.source.says = published(OLD, NEW)
        assert await waiting == "42"
        assert len(followed.times) == 3

    follow(published(OLD), script)


NONSENSE: dict[str, Fetched | GatewayError] = {
    "down": DOWN,
    "slow": UpstreamTimeout("late"),
    "too large": BadResponse("The upstream's answer is larger than 1048576 bytes"),
    "500": published(NEW, status=500),
    "redirect": Fetched(302, b"\r\nLocation: http://evil.test/", b""),
    "404 with keys": published(NEW, status=404),
    "204": Fetched(204, b"", b""),
    "html": Fetched(200, b"", b"<html><body>Please log in</body></html>"),
    "empty": Fetched(200, b"", b""),
    "no keys": published(),
    "null": Fetched(200, b"", b"null"),
    "deep": Fetched(200, b"", b"[" * 100_000),
    "one key twice": published(OLD, {**NEW, "kid": "old"}),
    "a secret": published({"kty": "oct", "kid": "s", "k": "c2VjcmV0"}),
    "of another kind": published({"kty": "OKP", "crv": "X25519", "x": "AAAA"}),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_known_keys_stay(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """While the source is down or says nonsense the known keys stay in force; one warning."""

    async def script(followed: Followed) -> None:
        followed.source.says = NONSENSE[name]
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(3600)
        assert await followed.verdict(OF_OLD) == "42"
        assert followed.keys.missing is None
        assert len(caplog.records) == 1
        assert "the known keys stay in force" in caplog.text
        caplog.clear()
        followed.source.says = published(NEW)
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(60)
        assert await followed.verdict(OF_NEW) == "42"
        assert await followed.verdict(OF_OLD) == "401"
        assert [record.message for record in caplog.records] == ["the key set is available again"]

    follow(published(OLD), script)


@pytest.mark.parametrize("name", NONSENSE)
def test_no_keys_at_the_start(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without keys it is 503 and said once; it tries more and more seldom, and recovers by itself."""

    async def script(followed: Followed) -> None:
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(0.5)
            assert len(caplog.records) == 1
            await asyncio.sleep(299.5)
        assert await followed.verdict(OF_OLD) == "503"
        assert followed.keys.missing is not None
        assert len(caplog.records) == 1
        assert "no token can be verified" in caplog.text
        assert followed.times[:6] == [0.0, 1.0, 3.0, 8.0, 18.0, 48.0]
        followed.source.says = published(OLD)
        await asyncio.sleep(30)
        assert await followed.verdict(OF_OLD) == "42"
        assert followed.keys.missing is None

    follow(NONSENSE[name], script)


def test_an_outage_does_not_open_the_flood_gate() -> None:
    """While the source fails, made-up key ids have it asked no more often than once in five seconds."""

    async def script(followed: Followed) -> None:
        followed.source.says = DOWN
        await asyncio.sleep(600)
        began = len(followed.times)
        forged = token({"alg": "ES256", "kid": "made-up"}, CLAIMS, es(es_key()))
        for _ in range(600):
            assert await followed.verdict(forged) == "401"
            await asyncio.sleep(0.1)
        assert len(followed.times) - began <= 60 / COOL_DOWN + 1
        assert await followed.verdict(OF_OLD) == "42"

    follow(published(OLD), script)


def test_the_first_failure_opens_no_flood_gate_either() -> None:
    """Two fetches for unknown keys lie five seconds apart, however they end."""

    async def script(followed: Followed) -> None:
        followed.source.says = DOWN
        forged = token({"alg": "ES256", "kid": "made-up"}, CLAIMS, es(es_key()))
        for _ in range(300):
            assert await followed.verdict(forged) == "401"
            await asyncio.sleep(0.1)
        pauses = [b - a for a, b in zip(followed.times[1:], followed.times[2:], strict=False)]
        assert min(pauses) >= COOL_DOWN - 1e-6

    follow(published(OLD), script)


def test_what_did_not_change_is_not_read_again() -> None:
    """The same document keeps the same keys, and what was verified with them."""

    async def script(followed: Followed) -> None:
        keys = followed.keys.keys
        assert await followed.verdict(OF_OLD) == "42"
        await asyncio.sleep(1000)
        assert len(followed.times) == 4
        assert followed.keys.keys is keys
        assert followed.verifier.cached(OF_OLD) is not None

    follow(published(OLD), script)


def test_keys_that_cannot_be_used_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """A set with one bad key is used without it; the log says which, without the key."""

    async def script(followed: Followed) -> None:
        assert await followed.verdict(OF_OLD) == "42"
        await asyncio.sleep(1000)
        assert len(caplog.records) == 1
        assert "published keys are not used: key 2 of 2" in caplog.text
        assert "AQAB" not in caplog.text

    weak = {"kty": "RSA", "n": "AQAB" * 30, "e": "AQAB", "kid": "weak"}
    with caplog.at_level(logging.WARNING):
        follow(published(OLD, weak), script)


def test_what_is_left_out_is_said_again_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    """A new document with the same doubtful key is no news; another doubtful key is. Many are one line."""

    async def script(followed: Followed) -> None:
        await asyncio.sleep(1)
        followed.source.says = published(OLD, {**weak, "use": "sig"})
        await asyncio.sleep(300)
        assert len(caplog.records) == 1
        followed.source.says = published(OLD, *[{**weak, "kid": f"{n}"} for n in range(9)])
        await asyncio.sleep(300)
        assert len(caplog.records) == 2
        assert "key 6 of 10: " in caplog.records[1].message
        assert caplog.records[1].message.endswith("; and 4 more")

    weak = {"kty": "RSA", "n": "AQAB" * 30, "e": "AQAB", "kid": "weak"}
    with caplog.at_level(logging.WARNING):
        follow(published(OLD, weak), script)


def test_it_follows_no_longer() -> None:
    """Closed in whatever it does, nothing is asked any more; it can be started again."""

    async def script(followed: Followed) -> None:
        followed.keys.close()
        followed.keys.close()
        await asyncio.sleep(1000)
        assert len(followed.times) == 1
        assert await followed.verdict(OF_OLD) == "42"
        followed.keys.start()
        await asyncio.sleep(0.1)
        assert len(followed.times) == 2

    follow(published(OLD), script)


def test_closed_in_the_middle_of_a_fetch() -> None:
    """The fetch is cancelled."""

    async def script(followed: Followed) -> None:
        followed.source.takes = 10.0
        await asyncio.sleep(301)
        followed.keys.close()
        await asyncio.sleep(1000)
        assert len(followed.times) == 2

    follow(published(OLD), script)


def test_fetching_once_for_somebody_who_does_not_stay() -> None:
    """`explain` fetches and follows nothing; a failure is its log's, and no error."""

    async def script(followed: Followed) -> None:
        await followed.keys.refresh()
        assert await followed.verdict(OF_OLD) == "42"
        followed.source.says = DOWN
        await followed.keys.refresh()
        assert await followed.verdict(OF_OLD) == "42"
        await asyncio.sleep(1000)
        assert len(followed.times) == 2

    follow(published(OLD), script, start=False)


def test_nobody_has_fetched_them_yet() -> None:
    """503 and not 401: a good token is not to be thrown away because we are not ready."""
    with pytest.raises(ServiceUnavailable) as missing:
        run(verifier(PublishedKeys(Source(DOWN).fetch, ALGORITHMS)).verify(OF_OLD))
    assert "not been fetched" in missing.value.reason


def test_the_age_is_that_of_the_last_answer() -> None:
    """Also of one that brought nothing new; while the source is away, it grows."""
    now = [100.0]

    async def main() -> None:
        source = Source(published(OLD))
        keys = PublishedKeys(source.fetch, ALGORITHMS, clock=lambda: now[0])
        assert keys.age is None
        for _ in range(2):
            await keys.refresh()
            assert keys.age == 0.0
            now[0] += 7.0
        source.says = DOWN
        await keys.refresh()
        assert keys.age == 7.0

    run(main())
