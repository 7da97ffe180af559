"""Revocations in memory: what they mean, how long they are kept, what it costs to ask."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import (
    Kind,
    Revocation,
    Revocations,
    of_all,
    of_subject,
    of_token,
)
from propylon.proxy.principal import Principal
from propylon.stores import memory as module
from propylon.stores.clocks import MARGIN
from propylon.stores.memory import MemoryRevocations
from tests.stores.kept import HOUR, NOON, Clock


def token(
    subject: str = "ann",
    *,
    issued: float | None = NOON,
    expires: float = NOON + 1800,
    token_id: str | None = "one",
) -> Verified:
    """What is known of a token."""
    return Verified(Principal(subject), expires, issued, token_id)


def unasked() -> str:
    """The digest of a token that has an id: nobody needs it."""
    raise AssertionError("nobody should have asked")


@pytest.fixture
def clock() -> Clock:
    """The wall clock."""
    return Clock()


@pytest.fixture
def revocations(clock: Clock) -> MemoryRevocations:
    """With nothing in it."""
    return MemoryRevocations(clock, longest=HOUR)


def test_nothing_is_revoked(revocations: MemoryRevocations) -> None:
    """Nobody need be asked, and the clock is not read."""
    port: Revocations = revocations
    revocations._clock = unasked  # type: ignore[assignment]
    assert not port.active
    assert not port.revoked(token(), unasked)
    assert not port.revoked(token(token_id=None), unasked)


def test_a_list_that_is_not_known(revocations: MemoryRevocations, clock: Clock) -> None:
    """No token counts until the list was read; what was revoked meanwhile is in it then."""
    revocations.set_known(known=False)
    revocations.apply(of_token(token(), unasked))
    clock.now += 7200
    revocations.apply(of_token(token(token_id="two", expires=clock.now + 60), unasked))
    for one in (token(), token(token_id="three"), token(token_id=None)):
        assert revocations.active
        with pytest.raises(ServiceUnavailable) as refused:
            revocations.revoked(one, unasked)
        assert "has not been read" in refused.value.reason
    revocations.set_known(known=True)
    assert revocations.revoked(token(token_id="two"), unasked)
    assert not revocations.revoked(token(token_id="three"), unasked)
    clock.now += 7200 + MARGIN
    revocations.drop_expired()
    assert not revocations.revoked(token(token_id="three"), unasked)
    assert not revocations.active


def test_one_token(revocations: MemoryRevocations) -> None:
    """By its id: this one, and no other."""
    revocations.apply(of_token(token(), unasked))
    assert revocations.active
    assert revocations.revoked(token(), unasked)
    assert not revocations.revoked(token(token_id="two"), unasked)
    assert not revocations.revoked(token(token_id=None), unasked)


def test_one_token_without_an_id(revocations: MemoryRevocations) -> None:
    """By its digest; an id that reads like a digest is none."""
    revocations.apply(of_token(token(token_id=None), lambda: "sha256:1"))
    assert revocations.revoked(token(token_id=None), lambda: "sha256:1")
    assert not revocations.revoked(token(token_id=None), lambda: "sha256:2")
    assert not revocations.revoked(token(token_id="sha256:1"), unasked)


def test_all_of_a_subject(revocations: MemoryRevocations) -> None:
    """What was issued before the moment, to this subject; what was issued at it or later counts."""
    revocations.apply(of_subject("ann", NOON))
    assert revocations.revoked(token(issued=NOON - 0.001), unasked)
    assert not revocations.revoked(token(issued=NOON), unasked)
    assert not revocations.revoked(token("bob", issued=NOON - 60), unasked)
    assert not revocations.revoked(token("", issued=NOON - 60), unasked)


def test_all_of_everybody(revocations: MemoryRevocations) -> None:
    """What was issued before the moment, to anybody."""
    revocations.apply(of_all(NOON))
    assert revocations.revoked(token(issued=NOON - 1), unasked)
    assert revocations.revoked(token("bob", issued=NOON - 1), unasked)
    assert not revocations.revoked(token(issued=NOON), unasked)


def test_a_token_of_the_same_second(revocations: MemoryRevocations) -> None:
    """Issued in whole seconds, it may be from before the moment: refused. With a fraction, it is known."""
    revocations.apply(of_subject("ann", NOON + 0.5))
    assert revocations.revoked(token(issued=NOON), unasked)
    assert not revocations.revoked(token(issued=NOON + 0.6), unasked)
    assert not revocations.revoked(token(issued=NOON + 1), unasked)


def test_a_token_that_does_not_say_when(clock: Clock, revocations: MemoryRevocations) -> None:
    """It counts as issued when it came first: one that came before is refused, and later ones pass."""
    revocations.note(token(issued=None, token_id="old"), unasked)
    revocations.note(token(issued=None, token_id=None), lambda: "sha256:old")
    revocations.apply(of_subject("ann", 1.0 + NOON))
    clock.now += 2
    for later in ("new", "old"):
        revocations.note(token(issued=None, token_id=later), unasked)
    assert revocations.revoked(token(issued=None, token_id="old"), unasked)
    assert revocations.revoked(token(issued=None, token_id=None), lambda: "sha256:old")
    assert not revocations.revoked(token(issued=None, token_id="new"), unasked)
    assert not revocations.revoked(token("bob", issued=None, token_id="old"), unasked)


def test_first_times_are_bounded(
    revocations: MemoryRevocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tokens without `iat` come, the latest are remembered."""
    monkeypatch.setattr(module, "_MAX_FIRST_SEEN", 3)
    for number in range(10):
        revocations.note(token(issued=None, token_id=str(number)), unasked)
    assert list(revocations._first_seen) == ["7", "8", "9"]


def test_since(clock: Clock, revocations: MemoryRevocations) -> None:
    """The later of the two moments: the subject's and everybody's."""

    def since(subject: str) -> float:
        try:
            revocations.since(subject).send(None)
        except StopIteration as stop:
            found: float = stop.value
            return found
        raise AssertionError

    assert since("ann") == -math.inf
    revocations.apply(of_subject("ann", NOON - 5))
    assert (since("ann"), since("bob")) == (NOON - 5, -math.inf)
    revocations.apply(of_all(NOON - 9))
    assert (since("ann"), since("bob")) == (NOON - 5, NOON - 9)
    revocations.apply(of_all(NOON - 1))
    assert (since("ann"), since("bob")) == (NOON - 1, NOON - 1)


def test_the_later_moment_stays(clock: Clock, revocations: MemoryRevocations) -> None:
    """An earlier moment that comes later takes nothing back; a later one is kept for longer."""
    revocations.apply(of_subject("ann", NOON))
    revocations.apply(of_subject("ann", NOON - 30))
    assert revocations.revoked(token(issued=NOON - 1), unasked)
    clock.now += 1800
    revocations.apply(of_subject("ann", clock.now))
    clock.now = NOON + HOUR + 60 + MARGIN
    revocations.drop_expired()
    assert revocations.revoked(token(issued=NOON + 1, expires=math.inf), unasked)
    clock.now = NOON + 1800 + HOUR + 60 + MARGIN
    revocations.drop_expired()
    assert not revocations.revoked(token(issued=NOON + 1, expires=math.inf), unasked)
    assert not revocations.active


def test_entries_leave_after_the_token(clock: Clock, revocations: MemoryRevocations) -> None:
    """Known until the token has expired and the margin is over, then forgotten; nothing is active any more."""
    revocations.apply(of_token(token(expires=NOON + 100), unasked))
    clock.now = NOON + 99.9 + MARGIN
    revocations.drop_expired()
    assert revocations.revoked(token(), unasked)
    clock.now = NOON + 100 + MARGIN
    revocations.drop_expired()
    assert not revocations.revoked(token(), unasked)
    assert not revocations.active
    assert (revocations._ids, revocations._expiries) == ({}, [])


def test_what_seems_to_be_over_is_noted(clock: Clock, revocations: MemoryRevocations) -> None:
    """A clock that is ahead when the journal is read makes no revocation void."""
    clock.now += 10 * 86400
    revocations.apply(of_token(token(), unasked))
    clock.now = NOON
    assert revocations.revoked(token(), unasked)


def test_the_same_again_takes_no_room(revocations: MemoryRevocations) -> None:
    """Whoever repeats it, or reads it from the journal once more, leaves nothing behind."""
    for _ in range(3):
        revocations.apply(of_token(token(), unasked))
        revocations.apply(of_subject("ann", NOON))
        revocations.apply(of_all(NOON))
    assert len(revocations._expiries) == 3


def test_a_call_drops_a_bounded_number(
    clock: Clock, revocations: MemoryRevocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number expires at once: each call drops a few, and the last one ends the asking."""
    monkeypatch.setattr(module, "_EXPIRED_PER_CALL", 4)
    for number in range(100):
        revocations.apply(Revocation(Kind.ID, str(number), NOON + 1))
    clock.now = NOON + 2 + MARGIN
    sizes = []
    while revocations.active:
        revocations.drop_expired()
        sizes.append(len(revocations._expiries))
    assert sizes == list(range(96, -1, -4))


MOMENTS = st.integers(0, 40).map(lambda number: NOON + number / 4)
IDS = st.sampled_from(["1", "2", None])
SUBJECTS = st.sampled_from(["ann", "bob"])
REVOCATIONS = st.one_of(
    st.builds(Revocation, st.sampled_from([Kind.ID, Kind.DIGEST]), st.sampled_from("12"), MOMENTS),
    st.builds(of_subject, SUBJECTS, MOMENTS),
    st.builds(of_all, MOMENTS),
)
TOKENS = st.builds(
    lambda subject, issued, token_id: token(subject, issued=issued, token_id=token_id),
    SUBJECTS,
    st.one_of(st.none(), MOMENTS),
    IDS,
)
STEPS = st.lists(
    st.one_of(
        REVOCATIONS,
        TOKENS,
        st.floats(0, 3).map(lambda seconds: round(seconds, 2)),
        st.just(MARGIN),
    )
)


def means(revocation: Revocation, verified: Verified, digest: str) -> bool:
    """Whether a revocation is about a token: the definition."""
    if revocation.kind is Kind.ID:
        return revocation.value == verified.token_id
    if revocation.kind is Kind.DIGEST:
        return verified.token_id is None and revocation.value == digest
    if revocation.kind is Kind.SUBJECT and revocation.value != verified.principal.subject:
        return False
    return verified.issued is not None and verified.issued < revocation.moment


@given(STEPS)
def test_any_history(steps: list[Revocation | Verified | float]) -> None:
    """Whatever came before: a token is refused if and only if a revocation that is in force means it."""
    clock = Clock()
    revocations = MemoryRevocations(clock, longest=2.0, leeway=0.5)
    made: list[Revocation] = []
    for step in steps:
        if isinstance(step, float):
            clock.now += step
        elif isinstance(step, Revocation):
            made.append(step)
            revocations.apply(step)
        else:
            digest: Callable[[], str] = lambda: "1"  # noqa: E731
            revocations.drop_expired()
            now = clock.now - MARGIN
            force = [one for one in made if revocations.until(one) > now]
            expected = any(means(one, step, "1") for one in force)
            assert expected == revocations.revoked(step, digest)
            assert revocations.active == bool(force)
