"""When a token counts: verified once, remembered until it ends, and asked about where it says nothing."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from propylon.errors import AuthError, ServiceUnavailable
from propylon.proxy.authenticate import verify as module
from propylon.proxy.authenticate.claims import Rules, Verified
from propylon.proxy.authenticate.jws import MAX_TOKEN, read_base64url
from propylon.proxy.authenticate.keys import from_jwks, from_pem, from_secret
from propylon.proxy.authenticate.verify import Verifier, digest
from propylon.proxy.challenge import invalid
from propylon.proxy.principal import Principal
from tests.proxy.authenticate.stand_in import (
    NOW,
    SECRET,
    Keys,
    Taken,
    Wall,
    one_secret,
    signed,
    verifier,
)
from tests.proxy.doubles import run
from tests.support.jose import b64, document, ec_jwk, es, es_key, hs, pem, token

OTHER = b"another secret of 32 bytes here."


class Issuer:
    """Somebody who can say what opaque tokens mean; knows two of them."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def ask(self, sent: bytes, client: str) -> Verified:
        """The subject is the token."""
        self.asked.append(sent)
        if sent == b"down":
            raise ServiceUnavailable("nobody knows")
        if not sent.startswith(b"good"):
            raise invalid(reason="introspection: not active")
        return Verified(Principal(sent.decode()), NOW + 60, None, None)


def refused(judge: Verifier, sent: bytes) -> AuthError:
    """The error with which a token is refused."""
    with pytest.raises(AuthError) as caught:
        run(judge.verify(sent))
    assert caught.value.status == 401
    return caught.value


# Signed tokens


def test_a_good_token() -> None:
    """It says who is asking, and until when."""
    verified = run(verifier().verify(signed(jti="t-1", iat=NOW)))
    assert (verified.principal.subject, verified.expires) == ("42", NOW + 60)
    assert (verified.issued, verified.token_id) == (NOW, "t-1")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "no signed token: it has no dots"),
        (b"opaque", "no signed token: it has no dots"),
        (signed(None), "its sub is missing, empty, too long or no plain text"),
        (signed(exp=None), "it never expires (no exp)"),
        (signed(nbf=NOW + 1), "not valid yet (nbf or iat)"),
        (token({"alg": "HS256"}, {"sub": "42", "exp": NOW + 60}, hs(OTHER)), "signature"),
        (token({"alg": "none"}, {"sub": "42", "exp": NOW + 60}, lambda _: b""), ""),
        (token({"alg": "HS384"}, {"sub": "42", "exp": NOW + 60}, hs(SECRET, 384)), "algorithm"),
    ],
)
def test_bad_tokens(sent: bytes, reason: str) -> None:
    """Refused with one sentence for the client; the log says why; nothing is remembered of them."""
    judge = verifier()
    for _ in range(2):
        error = refused(judge, sent)
        assert reason in error.reason
        assert error.message == "The token is not valid"
    assert judge.cached(sent) is None
    assert len(judge._cache) == 0


def test_rules_hold() -> None:
    """Issuer and audience are those of the configuration."""
    judge = verifier(rules=Rules(issuers=frozenset({"https://a"}), audiences=frozenset({"api"})))
    assert run(judge.verify(signed(iss="https://a", aud=["x", "api"]))).principal.known
    for more in ({}, {"iss": "https://a"}, {"iss": "https://b", "aud": "api"}, {"aud": "api"}):
        refused(judge, signed(**more))


def test_a_token_is_verified_once() -> None:
    """The second time it is the same answer, without a look at the keys."""
    source = Keys(one_secret())
    judge = verifier(source)
    verified = run(judge.verify(signed()))
    source.keys = None
    assert run(judge.verify(signed())) is verified
    assert judge.cached(signed()) is verified


def test_remembered_until_it_ends() -> None:
    """What holds until a moment does not hold at that moment: then it has expired."""
    wall = Wall()
    judge = verifier(clock=wall, rules=Rules(leeway=5))
    sent = signed()
    run(judge.verify(sent))
    wall.now = NOW + 64.999
    assert judge.cached(sent) is not None
    wall.now = NOW + 65
    assert judge.cached(sent) is None
    assert len(judge._cache) == 0
    error = refused(judge, sent)
    assert (error.message, error.reason.split()[0]) == ("Token has expired", "expired")


def test_only_the_same_bytes_are_remembered() -> None:
    """A token with another signature, or with more around it, is another token."""
    judge = verifier()
    sent = signed()
    run(judge.verify(sent))
    other = b"A" if sent[-2:-1] != b"A" else b"B"
    forged = (sent[:-2] + other + sent[-1:], sent + b"=", sent + b" ", sent.rpartition(b".")[0])
    for one in forged:
        assert judge.cached(one) is None
        refused(judge, one)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is given many tokens pushes out the oldest; those are verified again."""
    monkeypatch.setattr(module, "_MAX_CACHED", 3)
    judge = verifier()
    sent = [signed(str(number)) for number in range(5)]
    for one in sent:
        run(judge.verify(one))
    assert [judge.cached(one) is not None for one in sent] == [False, False, True, True, True]
    assert run(judge.verify(sent[0])).principal.subject == "0"


def test_forgetting() -> None:
    """When other keys are in force, a token of the old ones is refused at once."""
    source = Keys(one_secret())
    judge = verifier(source)
    run(judge.verify(signed()))
    source.keys = from_secret(OTHER, ["HS256"])
    assert run(judge.verify(signed())).principal.known  # nobody has said so yet
    judge.forget()
    assert judge.cached(signed()) is None
    refused(judge, signed())


# Revocation


@pytest.mark.parametrize("remembered", [True, False])
def test_a_token_that_was_taken_back(remembered: bool) -> None:
    """Refused whether it was verified before or not; another one of somebody else's is not."""
    taken = Taken()
    judge = verifier(taken=taken)
    if remembered:
        run(judge.verify(signed()))
    taken.subjects.add("42")
    for _ in range(2):
        error = refused(judge, signed())
        assert (error.reason, error.message) == ("revoked", "The token is not valid")
    assert run(judge.verify(signed("7"))).principal.subject == "7"


def test_nothing_is_revoked() -> None:
    """As long as nothing is, a remembered token costs no question."""
    taken = Taken(active=False)
    judge = verifier(taken=taken)
    run(judge.verify(signed()))
    taken.asked = 0
    for _ in range(3):
        assert judge.cached(signed()) is not None
    assert taken.asked == 0


def test_a_token_without_an_id_is_named_by_its_digest() -> None:
    """The digest cannot be used as a token, and is another one for each."""
    taken = Taken(digests={digest(signed())})
    judge = verifier(taken=taken)
    assert refused(judge, signed()).reason == "revoked"
    assert run(judge.verify(signed("7"))).principal.known
    assert signed().decode() not in digest(signed())
    refused(judge, digest(signed()).encode())


def test_the_twin_of_a_token_that_was_taken_back() -> None:
    """Of an ECDSA signature (r, s) anybody makes (r, n - s), which is as good: one token, taken back."""
    key = es_key()
    sent = token({"alg": "ES256"}, {"sub": "42", "exp": NOW + 60}, es(key))
    head, _, last = sent.rpartition(b".")
    signature = read_base64url(last)
    s = key.curve.group_order - int.from_bytes(signature[32:])
    twin = head + b"." + b64(signature[:32] + s.to_bytes(32))
    taken = Taken()
    judge = verifier(Keys(from_pem(pem(key), ["ES256"])), taken=taken)
    assert twin != sent
    assert run(judge.verify(twin)).principal.subject == "42"
    taken.digests.add(digest(sent))
    assert refused(judge, twin).reason == refused(judge, sent).reason == "revoked"
    judge.forget()
    assert refused(judge, twin).reason == "revoked"


def test_taking_back_what_an_issuer_vouches_for() -> None:
    """Revocation holds for opaque tokens, too."""
    taken = Taken(digests={digest(b"good-1")})
    judge = verifier(opaque=Issuer(), taken=taken)
    assert refused(judge, b"good-1").reason == "revoked"
    assert run(judge.verify(b"good-2")).principal.known


# Keys that are not there, or not among them


def test_without_keys_nobody_can_tell() -> None:
    """503, and not 401: a client must not throw a good token away."""
    source = Keys(None)
    with pytest.raises(ServiceUnavailable):
        run(verifier(source).verify(signed()))
    assert source.wanted == 0


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ({"alg": "ES256", "kid": "b"}, 1),
        ({"alg": "ES256", "kid": "a"}, 0),
        ({"alg": "ES256"}, 0),
        ({"alg": "RS256", "kid": "b"}, 0),
        ({"alg": "none", "kid": "b"}, 0),
    ],
)
def test_an_unknown_key_is_wanted(header: dict[str, str], wanted: int) -> None:
    """Only a token that names a key which is not there, and might be one, has its source asked."""
    source = Keys(from_jwks(document(ec_jwk(es_key(), kid="a", use="sig")), ["ES256"]))
    forged = token(header, {"sub": "42", "exp": NOW + 60}, lambda _: b"x" * 64)
    refused(verifier(source), forged)
    assert source.wanted == wanted


# Opaque tokens


def test_an_opaque_token_is_asked_about() -> None:
    """Each time, because its issuer may take it back: remembering is the asker's business."""
    issuer = Issuer()
    judge = verifier(opaque=issuer)
    for _ in range(2):
        assert run(judge.verify(b"good-1")).principal.subject == "good-1"
    assert issuer.asked == [b"good-1", b"good-1"]
    assert judge.cached(b"good-1") is None
    refused(judge, b"bad")
    with pytest.raises(ServiceUnavailable):
        run(judge.verify(b"down"))


def test_a_signed_token_is_not_asked_about_where_there_is_a_key() -> None:
    """Two dots make it signed: its signature decides, and nobody is asked in the end."""
    issuer = Issuer()
    judge = verifier(Keys(one_secret()), issuer)
    assert run(judge.verify(signed())).principal.subject == "42"
    refused(judge, b"good.2.3")
    assert issuer.asked == []
    for sent in (b"good", b"good.2", b"good.2.3.4"):
        assert run(judge.verify(sent)).principal.known
    assert issuer.asked == [b"good", b"good.2", b"good.2.3.4"]


def test_without_a_key_whoever_issued_it_is_asked() -> None:
    """A signed token, too."""
    issuer = Issuer()
    judge = verifier(opaque=issuer)
    assert run(judge.verify(b"good.2.3")).principal.known
    assert issuer.asked == [b"good.2.3"]


@pytest.mark.parametrize("length", [MAX_TOKEN, MAX_TOKEN + 1])
def test_long_tokens_are_nobodys(length: int) -> None:
    """Nobody is asked about a token that is longer than any is."""
    issuer = Issuer()
    sent = b"good".ljust(length, b"x")
    judge = verifier(opaque=issuer)
    if length <= MAX_TOKEN:
        assert run(judge.verify(sent)).principal.known
    else:
        refused(judge, sent)
    assert len(issuer.asked) == (length <= MAX_TOKEN)


@pytest.mark.parametrize("order", [lambda some: some, reversed])
def test_many_at_once(order: Callable[[list[bytes]], list[bytes]]) -> None:
    """Each gets its own answer, whoever is answered first."""

    class Slow(Issuer):
        async def ask(self, sent: bytes, client: str) -> Verified:
            await gates[sent].wait()
            return await super().ask(sent, client)

    sent = [b"good-1", b"bad", b"good-2", b"down"]
    gates: dict[bytes, asyncio.Event] = {}

    async def main() -> list[object]:
        gates.update({one: asyncio.Event() for one in sent})
        judge = verifier(opaque=Slow())
        waiting = asyncio.gather(*map(judge.verify, sent), return_exceptions=True)
        await asyncio.sleep(0)
        for one in order(sent):
            gates[one].set()
            await asyncio.sleep(0)
        return await waiting

    found = asyncio.run(main())
    subjects = [getattr(getattr(one, "principal", None), "subject", type(one)) for one in found]
    assert subjects == ["good-1", AuthError, "good-2", ServiceUnavailable]


def test_each_verification_counts_by_its_outcome() -> None:
    """Once, whether it went well or not; a token that was revoked meanwhile is no cached one."""
    wall, taken = Wall(), Taken()
    judge = verifier(opaque=Issuer(), taken=taken, clock=wall)
    for sent, times in ((b"good", 2), (b"bad", 1), (b"down", 1)):
        for _ in range(times):
            with contextlib.suppress(AuthError, ServiceUnavailable):
                run(judge.verify(sent))
    assert list(judge.counts) == [0, 2, 0, 0, 1, 1]
    judge = verifier(taken=taken, clock=wall)
    sent = signed(jti="t-1", iat=NOW)
    for _ in range(3):
        run(judge.verify(sent))
    refused(judge, signed(exp=NOW - 3600))
    assert list(judge.counts) == [2, 1, 1, 0, 0, 0]
    taken.subjects = {"42"}
    refused(judge, sent)
    refused(judge, signed(jti="t-2", iat=NOW))
    assert list(judge.counts) == [2, 1, 1, 2, 0, 0]
