"""What is taken back stays so for as long as a token may count, whatever is configured, now or by a reload."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from propylon.assembly.accounts import TokenServices
from propylon.config.models.auth import AuthConfig
from propylon.config.models.schema import GatewayConfig
from propylon.errors import AuthError
from propylon.proxy.authenticate.claims import MOST_LEEWAY, Rules, Verified
from propylon.proxy.authenticate.keys import from_secret
from propylon.proxy.authenticate.revocation import Revocation, of_all, of_subject, of_token
from propylon.proxy.authenticate.trust import Trust
from propylon.proxy.authenticate.verify import FixedKeys, Verifier, digest
from propylon.proxy.principal import Principal
from propylon.stores.clocks import MARGIN
from propylon.stores.memory import LONGEST_TOKEN, MemoryRevocations
from tests.stores.kept import NOON, Clock
from tests.support.jose import hs, token
from tests.support.virtual import run

SECRET = b"a secret of 32 bytes, for HS256."
LEEWAYS = [0.0, 5.0, 599.5, MOST_LEEWAY]


def verifier(revocations: MemoryRevocations, clock: Clock, leeway: float) -> Verifier:
    """What a configuration comes to."""
    keys = FixedKeys(from_secret(SECRET, ["HS256"]))
    return Verifier([Trust(Rules(leeway=leeway), keys)], None, revocations, clock)


def minted(**changes: Any) -> bytes:
    """A token of half an hour."""
    claims = {"sub": "ann", "iat": NOON, "exp": NOON + 1800, "jti": "one", **changes}
    said = {name: value for name, value in claims.items() if value is not None}
    return token({"alg": "HS256"}, said, hs(SECRET))


def accepted(judge: Verifier, sent: bytes) -> Verified | None:
    """What a token says, if it counts."""

    async def main() -> Verified | None:
        try:
            return await judge.verify(sent)
        except AuthError:
            return None

    return run(main())


def meaning(kind: str, sent: bytes, verified: Verified) -> Revocation:
    """One of the ways to take a token back."""
    if kind == "subject":
        return of_subject("ann", NOON + 1)
    if kind == "all":
        return of_all(NOON + 1)
    return of_token(verified, lambda: digest(sent))


def moments(*times: float) -> list[float]:
    """These, and what is just before and just after."""
    return sorted(at for time in times for at in (time - 0.25, time, time + 0.25))


# Constants that have to agree


def test_the_most_leeway_is_the_most_that_can_be_configured() -> None:
    """No file sets more than what is waited for; it may set all of it."""
    found = AuthConfig.model_validate({"jwt": {"leeway": MOST_LEEWAY}})
    assert found.jwt.leeway == MOST_LEEWAY
    for more in (MOST_LEEWAY + 0.001, MOST_LEEWAY * 2, "10m1s"):
        with pytest.raises(ValidationError, match="leeway"):
            AuthConfig.model_validate({"jwt": {"leeway": more}})


def test_what_runs_waits_for_as_long(tmp_path: Path) -> None:
    """Whatever is configured at the start: a reload may set the most there is."""
    tokens = {"database": f"sqlite:///{tmp_path}/none.db"}
    jwt = {"secret": SECRET.decode(), "leeway": 0}
    config = GatewayConfig.model_validate({"auth": {"jwt": jwt, "tokens": tokens}})

    async def nobody(sent: bytes) -> Verified:
        raise AssertionError

    accounts = TokenServices(config, nobody)
    revocations = accounts.revocations
    asyncio.run(accounts.close())
    single = of_token(Verified(Principal("ann"), NOON, None, "one"), str)
    assert revocations.until(single) >= NOON + MOST_LEEWAY
    for many in (of_all(NOON), of_subject("ann", NOON)):
        assert revocations.until(many) >= NOON + LONGEST_TOKEN + MOST_LEEWAY


# A token that was taken back


@pytest.mark.parametrize("leeway", LEEWAYS)
@pytest.mark.parametrize("kind", ["id", "digest", "subject", "all"])
def test_it_never_comes_back(kind: str, leeway: float) -> None:
    """From the moment at which it is taken back it is refused, and so when it would have expired."""
    clock = Clock()
    revocations = MemoryRevocations(clock, longest=1800.0, leeway=MOST_LEEWAY)
    sent = minted(jti=None if kind == "digest" else "one")
    judge = verifier(revocations, clock, leeway)
    other = minted(sub="bob", jti="two", iat=NOON + 1)
    verified = accepted(judge, sent)
    assert verified is not None
    revocations.apply(meaning(kind, sent, verified))
    for clock.now in moments(NOON + 900, NOON + 1800, NOON + 1800 + leeway, NOON + 3600):
        assert accepted(judge, sent) is None
        assert accepted(verifier(revocations, clock, leeway), sent) is None  # with an empty memory
        assert (accepted(judge, other) is not None) == (clock.now < NOON + 1800 + leeway)


@pytest.mark.parametrize("before", LEEWAYS)
@pytest.mark.parametrize("kind", ["id", "digest", "subject", "all"])
def test_nor_by_a_reload(kind: str, before: float) -> None:
    """More leeway makes tokens count that had expired: not those that had been taken back."""
    clock = Clock()
    revocations = MemoryRevocations(clock, longest=1800.0, leeway=MOST_LEEWAY)
    sent = minted(jti=None if kind == "digest" else "one")
    verified = accepted(verifier(revocations, clock, before), sent)
    assert verified is not None
    revocations.apply(meaning(kind, sent, verified))
    for clock.now in moments(NOON + 1800, NOON + 1800 + before, NOON + 1800 + MOST_LEEWAY):
        for _ in range(3):  # whoever asks lets go of what is over
            assert accepted(verifier(revocations, clock, before), sent) is None
            assert accepted(verifier(revocations, clock, MOST_LEEWAY), sent) is None


def test_a_token_of_the_longest_life() -> None:
    """What was issued a moment before all were taken back is refused to its very end."""
    clock = Clock()
    revocations = MemoryRevocations(clock, longest=LONGEST_TOKEN, leeway=MOST_LEEWAY)
    end = NOON + LONGEST_TOKEN
    sent = minted(exp=end)
    judge = verifier(revocations, clock, MOST_LEEWAY)
    assert accepted(judge, sent) is not None
    clock.now = NOON + 1
    revocations.apply(of_subject("ann", NOON + 1))
    assert accepted(judge, sent) is None
    for clock.now in moments(NOON + 86400, end, end + MOST_LEEWAY):
        assert accepted(judge, sent) is None
    assert accepted(judge, minted(exp=end + 3600, iat=NOON + 2, jti="two")) is not None


def test_nothing_is_kept_for_ever() -> None:
    """When nothing that was meant can count any more, nothing is known of it."""
    clock = Clock()
    revocations = MemoryRevocations(clock, longest=LONGEST_TOKEN, leeway=MOST_LEEWAY)
    judge = verifier(revocations, clock, 0.0)
    verified = accepted(judge, minted())
    assert verified is not None
    for kind in ("id", "subject", "all"):
        revocations.apply(meaning(kind, b"", verified))
    clock.now = NOON + LONGEST_TOKEN + 2 * MOST_LEEWAY + MARGIN
    revocations.drop_expired()
    assert not revocations.active
    assert revocations._expiries == []
