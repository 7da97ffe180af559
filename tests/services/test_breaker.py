"""The breaker: every rule, by a clock that the test turns."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from docs.generate import RESILIENCE, states, with_states
from propylon.config.models.resilience import CircuitConfig
from propylon.errors import (
    BadResponse,
    CircuitOpen,
    ClientGone,
    ConnectFailed,
    ConnectTimeout,
    GatewayError,
    InternalError,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    ServiceUnavailable,
    StaleConnection,
    UpstreamReset,
    UpstreamTimeout,
)
from propylon.services.breaker import (
    TRANSITIONS,
    Breaker,
    Circuit,
    Event,
    Outcome,
    Permit,
    Snapshot,
    State,
    judge,
)

OUTCOMES = {"S": Outcome.SUCCESS, "F": Outcome.FAILURE, "N": Outcome.NEUTRAL}
EPOCH = 1_795_254_720.0  # 2026-11-21T09:52:00Z


@dataclass
class Coming:
    """A request's body, while its client sends it."""

    complete: bool = False


@dataclass
class World:
    """A breaker, its clocks, and a language of one word for each thing that happens to it.

    `F`, `S`, `N`: a request that fails, goes well, is left by its client. `a`: one that sets out and
    stays in flight; `f`, `s`, `n`: the oldest of these ends; `z`: the youngest ends well. `!`: one
    that is refused. `+5`: five seconds pass. `F*4`: four times. `c`, `o`, `h`: the state is that.
    `u`: one sets out whose body is still coming in; `e`: the oldest such body has come in whole.
    `O`, `C`: another worker's breaker has opened now, or closed. `X`, `R`: an operator opens it, or resets it.
    """

    circuit: Circuit
    cause: str = ""
    now: float = 1000.0
    flying: list[Permit] = field(default_factory=list)
    bodies: list["Coming"] = field(default_factory=list)
    moves: list[tuple[str, State, State, Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin."""
        self.breaker = Breaker(
            "orders",
            self.circuit,
            clock=lambda: self.now,
            wall=lambda: EPOCH + self.now - 1000.0,
            listener=lambda *move: self.moves.append(move),
        )

    def play(self, script: str) -> "World":
        """Let it happen."""
        for word in script.split():
            action, _, times = word.partition("*")
            for _ in range(int(times or "1")):
                self.act(action)
        return self

    def act(self, action: str) -> None:
        """Let one thing happen."""
        if action[0] == "+":
            self.now += float(action[1:])
        elif action in "SFN":
            self.breaker.settle(self.breaker.admit(), OUTCOMES[action], self.cause)
        elif action == "a":
            self.flying.append(self.breaker.admit())
        elif action == "u":
            self.flying.append(self.breaker.admit())
            self.flying[-1].body = Coming()
            self.bodies.append(self.flying[-1].body)
        elif action == "e":
            self.bodies.pop(0).complete = True
        elif action in "sfn":
            self.breaker.settle(self.flying.pop(0), OUTCOMES[action.upper()])
        elif action == "z":
            self.breaker.settle(self.flying.pop(), Outcome.SUCCESS)
        elif action == "O":
            self.breaker.open_as(self.now, "of another worker")
        elif action == "C":
            self.breaker.close_as()
        elif action == "X":
            self.breaker.force_open("ann opened it by hand")
        elif action == "R":
            self.breaker.reset()
        elif action == "!":
            self.refused()
        else:
            assert action == self.breaker.state[0].lower()

    def refused(self) -> CircuitOpen:
        """What a request is told that is not let through."""
        with pytest.raises(CircuitOpen) as caught:
            self.breaker.admit()
        return caught.value


# The numbers alone, without the share, which has cases of its own.
DEFAULT = Circuit(failure_rate=0.0)
SMALL = replace(DEFAULT, failure_threshold=2, failure_window=10.0, min_throughput=1)
BUSY = replace(SMALL, min_throughput=10)
THREE = replace(DEFAULT, probes=3)

CASES = {
    # CLOSED
    "closed at first": (DEFAULT, "c S"),
    "fewer failures than the threshold": (DEFAULT, "F*4 c S c"),
    "as many as the threshold": (DEFAULT, "F*5 o !"),
    "they need not follow each other": (DEFAULT, "F S*9 F N F S F S*9 c F o"),
    "successes alone": (DEFAULT, "S*100 c"),
    "a threshold of one": (replace(SMALL, failure_threshold=1), "F o"),
    "clients that leave are no failures": (DEFAULT, "N*100 c F*4 N c F o"),
    "failures within the window": (SMALL, "F +9.9 F o"),
    "failures as far apart as the window": (SMALL, "F +10 F +10 F +10 F c"),
    "the window slides": (SMALL, "F +6 S +6 F c +6 F o"),
    "a success does not open": (SMALL, "F +1 S*50 c F o"),
    # Other workers
    "opened elsewhere": (DEFAULT, "S O o ! +59 o +1 h"),
    "opened elsewhere while open: the later one counts": (DEFAULT, "F*5 +30 O o +59 o +1 h"),
    "opened elsewhere while probing: the probe counts no more": (
        DEFAULT,
        "F*5 +60 h a O o s o +60 h",
    ),
    "closed elsewhere": (DEFAULT, "F*5 o C c S F*4 c F o"),
    "closed elsewhere while probing": (DEFAULT, "F*5 +60 h a C c f c F*4 c F o"),
    "closed elsewhere while closed: failures stay": (DEFAULT, "F*4 C c F o"),
    "a clock that stands still": (SMALL, "F c F o"),
    "too few calls": (BUSY, "F*2 c F*7 c F o"),
    "enough calls, most of them good": (BUSY, "S*8 F c F o"),
    "the call that makes them enough is good": (BUSY, "F*2 S*8 c F o"),
    "calls before the window": (BUSY, "S*9 +10 F*2 c"),
    "calls of clients that left": (BUSY, "N*20 F*2 c"),
    "calls at the window's edge": (BUSY, "S*8 +9.9 F c F o"),
    "calls in flight are none yet": (BUSY, "a*20 F*2 c"),
    # OPEN
    "open until recovery_timeout": (DEFAULT, "F*5 +59.9 ! o +0.1 h"),
    "half open without being asked": (DEFAULT, "F*5 +60 h"),
    "refusals do not lengthen it": (DEFAULT, "F*5 +30 !*9 +30 S c"),
    "a failure that comes late does not lengthen it": (DEFAULT, "a F*5 +30 f +30 S c"),
    "a success that comes late does not close it": (DEFAULT, "a F*5 s o !"),
    "a clock that jumps by a year": (DEFAULT, "F*5 +31536000 S c"),
    # HALF_OPEN
    "one probe, the others are refused": (DEFAULT, "F*5 +60 a !*100 h s c"),
    "a probe that fails": (DEFAULT, "F*5 +60 F o +59.9 ! +0.1 S c"),
    "again and again": (DEFAULT, "F*5 +60 F +60 F +60 F o ! +60 S c"),
    "as many probes as there should be": (THREE, "F*5 +60 a*3 !*9 h"),
    "all of them have to succeed": (THREE, "F*5 +60 S h S h S c"),
    "those that went well do not make room": (THREE, "F*5 +60 a*3 s*2 !*9 h s c"),
    "two good ones and a bad one": (THREE, "F*5 +60 S*2 F o !"),
    "one bad one among those in flight": (THREE, "F*5 +60 a*3 s f o ! s o +60 h"),
    "a client that leaves frees its slot": (DEFAULT, "F*5 +60 a ! n h a ! s c"),
    "clients that leave prove nothing": (DEFAULT, "F*5 +60 N*50 h"),
    "requests from before do not count": (DEFAULT, "a*2 F*5 +60 s h f h a !"),
    "nor do they take slots": (THREE, "a*9 F*5 +60 a*3 !"),
    # HALF_OPEN: the lease
    "a probe that hangs": (DEFAULT, "F*5 +60 a +29.9 ! h +0.1 o !"),
    "recovery counts from the end of its lease": (DEFAULT, "F*5 +60 a +30 o +59.9 ! +0.1 h S c"),
    "as well if nobody looked meanwhile": (DEFAULT, "F*5 +60 a +89.9 o +0.1 h"),
    "a probe that hangs for a day": (DEFAULT, "F*5 +60 a +86400 h S c"),
    "its late success is ignored": (DEFAULT, "F*5 +60 a +30 s o +60 h"),
    "its late failure is ignored": (DEFAULT, "F*5 +60 a +30 o +30 f +30 h S c"),
    "its late success is no proof for another": (THREE, "F*5 +60 a +90 h a*3 s h z*2 h"),
    "its late failure is none against another": (DEFAULT, "F*5 +60 a +90 a f h s c"),
    "the oldest one's lease decides": (THREE, "F*5 +60 a +20 a +10 o"),
    "one that ended has no lease": (THREE, "F*5 +60 a +20 a s +10 h +19.9 h +0.1 o"),
    # HALF_OPEN: probes whose client is still sending
    "an upload makes way": (DEFAULT, "F*5 +60 u +1 a ! h s h s c"),
    "though not at once": (DEFAULT, "F*5 +60 u !*9 +0.9 ! h +0.1 a ! f h s c"),
    "nor those that come together": (DEFAULT, "F*5 +60 u !*9 h e ! s c"),
    "again and again, for whoever comes last": (
        DEFAULT,
        "F*5 +60 u +1 u ! +1 u ! +1 a ! f*3 h s c",
    ),
    "who made way proves nothing": (THREE, "F*5 +60 u +1 a*3 s h s*2 h s c"),
    "only as many make way as have to": (THREE, "F*5 +60 u*2 +1 a*2 e*2 ! s h s*2 h s c"),
    "the oldest makes way first": (THREE, "F*5 +60 u*3 e +1 a s h f h f o"),
    "an upload that is whole makes way no more": (DEFAULT, "F*5 +60 u e +1 !*9 h s c"),
    "a request without a body never does": (THREE, "F*5 +60 a*2 u +1 a !*9 h"),
    "what went well is kept": (THREE, "F*5 +60 S*2 u +1 a ! h s h s c"),
    "an upload proves as much as any": (DEFAULT, "F*5 +60 u e s c"),
    "be it answered before its end": (DEFAULT, "F*5 +60 u s c"),
    "or refused before its end": (DEFAULT, "F*5 +60 u f o +59.9 ! +0.1 h"),
    "a client that leaves while it sends": (DEFAULT, "F*5 +60 u n h a ! s c"),
    "a client that never ends": (DEFAULT, "F*5 +60 u +30 h +86400 h a ! z c"),
    "holds no slot then": (THREE, "F*5 +60 u*3 +30 h a*3 ! h"),
    "and its end says nothing": (DEFAULT, "F*5 +60 u +30 f h a s c"),
    "an upload that is whole has a lease of its own": (DEFAULT, "F*5 +60 u e +30 h +29.9 ! +0.1 o"),
    "from when somebody sees it": (DEFAULT, "F*5 +60 u e +86400 h +29.9 ! h +0.1 o"),
    "others keep their lease": (THREE, "F*5 +60 u +10 a +20 h +9.9 h +0.1 o"),
    "and end it though an upload goes on": (THREE, "F*5 +60 a +10 u +19.9 h +0.1 o f s o"),
    "an upload of an earlier time": (DEFAULT, "F*5 +60 u +1 a f h f o +60 h a ! s c"),
    "an upload from before it opened": (DEFAULT, "u F*5 +60 a +1 ! f h e s c"),
    # CLOSED again
    "clean failures": (DEFAULT, "F*5 +60 S F*4 c F o"),
    "clean calls": (replace(BUSY, recovery_timeout=1.0), "S*8 F*2 +1 S F*2 c S*7 F o"),
    "failures from before do not count": (DEFAULT, "a*9 F*5 +60 S f*9 c"),
    "nor do probes of an earlier time": (DEFAULT, "F*5 +60 a +90 S c f c F*4 c"),
}


HALF = Circuit()
FEW = Circuit(failure_threshold=2, failure_window=12.0, min_throughput=1)
TENTH = replace(FEW, failure_rate=0.1)
ALL = replace(FEW, failure_rate=1.0)

SHARES = {
    "failures alone": (HALF, "F*4 c F o"),
    "half of the calls": (HALF, "S*5 F*4 c F o"),
    "a little less than half": (HALF, "S*6 F*5 c F o"),
    "many good calls, a few bad ones": (HALF, "S*100 F*99 c F o"),
    "one bad input a second among good calls": (FEW, "F S*3 +1 F S*3 +1 F S*3 +1 F S*3 +1 F S*3 c"),
    "clients that leave do not thin it out": (HALF, "S*5 N*100 F*4 c F o"),
    "requests in flight do not either": (HALF, "a*100 F*4 c F o"),
    "only a failure opens": (FEW, "S*3 F*2 c +12 S c F c F o"),
    "a tenth": (TENTH, "S*18 F c F o"),
    "less than a tenth": (TENTH, "S*19 F*2 c F o"),
    "a share that is no binary fraction": (
        replace(FEW, failure_rate=0.07, failure_threshold=7),
        "S*93 F*6 c F o",
    ),
    "all of them": (ALL, "S F*50 c +12 F c F o"),
    "good calls leave the window": (FEW, "S*9 +11.9 F*8 c +0.1 F o"),
    "good calls of one slice leave it together": (FEW, "S*4 +0.1 S*4 +11.9 F*2 o"),
    "good calls of a slice leave no sooner than its first": (FEW, "S*4 +0.1 S*4 +11.8 F*2 c"),
    "bad calls leave the window": (FEW, "S*9 F*8 c +12 F c F o"),
    "a recovered service begins anew": (HALF, "S*9 F*9 o +60 S F*4 c F o"),
    "what began before it opened does not thin it out": (HALF, "a*9 F*5 +60 S s*9 F*4 c F o"),
}


@pytest.mark.parametrize(("circuit", "script"), SHARES.values(), ids=SHARES)
def test_share(circuit: Circuit, script: str) -> None:
    """The breaker opens when the failures are enough and also their share of the calls is."""
    World(circuit).play(script)


def test_a_caller_may_count_successes_by_itself() -> None:
    """What is added to the tally of a permit counts as if it had been settled."""
    world = World(HALF).play("S a")
    tally = world.flying[0].tally
    assert tally is not None
    assert tally.left == HALF.failure_window / 60
    tally.successes += 4
    world.play("F*4 c F o")
    assert world.breaker.snapshot().calls == 10


def test_forgiven_failures_are_out_of_the_share() -> None:
    """When an instance is ejected, its failures count in no number, and the good calls stay."""
    world = World(HALF).play("S*5 F*4")
    world.breaker.forgive()
    assert world.breaker.snapshot().calls == 5
    world.play("F*4 c F o")


@pytest.mark.parametrize(("circuit", "script"), CASES.values(), ids=CASES)
def test_rules(circuit: Circuit, script: str) -> None:
    """What happens to a breaker, and the state that it is in then."""
    World(circuit).play(script)


def test_defaults_are_those_of_the_file() -> None:
    """A service that says nothing of its breaker has the one that the documentation shows."""
    assert Circuit(**CircuitConfig().model_dump()) == Circuit()
    assert Circuit().failure_rate == 0.5


def test_every_state_has_a_way_in_and_a_way_out() -> None:
    """Nothing is stuck, and nothing is unreachable."""
    assert set(TRANSITIONS) == set(State)
    targets = [new for events in TRANSITIONS.values() for new in events.values()]
    assert set(targets) == set(State)
    assert all(new is not old for old, events in TRANSITIONS.items() for new in events.values())
    assert {event for events in TRANSITIONS.values() for event in events} == set(Event)


def test_every_line_of_the_table_is_taken() -> None:
    """The listener hears of each move once, with the service's name and the reason."""
    world = World(DEFAULT).play(
        "F*5 +60 F +60 a +30 o +60 S c O C F*5 +60 h O +60 h C X R F*5 +60 h X R F*5 +60 h R"
    )
    taken: dict[Any, dict[Any, Any]] = {}
    for service, old, new, event in world.moves:
        assert service == "orders"
        taken.setdefault(old, {})[event] = new
    assert taken == TRANSITIONS
    assert len(world.moves) == 23


def test_what_was_due_is_reported_in_order() -> None:
    """A lease that ended a day ago opened it, and time half-opened it again."""
    world = World(DEFAULT).play("F*5 +60 a")
    world.moves.clear()
    world.play("+86400 h")
    assert [(old, new, event) for _, old, new, event in world.moves] == [
        (State.HALF_OPEN, State.OPEN, Event.PROBE_EXPIRED),
        (State.OPEN, State.HALF_OPEN, Event.RECOVERY_TIMEOUT),
    ]


def test_a_listener_may_look() -> None:
    """When it is called the move is complete, and looking changes nothing."""
    seen: list[State] = []
    now = [0.0]
    breaker: Breaker

    def listener(_name: str, _old: State, new: State, _event: Event) -> None:
        assert breaker.snapshot().state is new
        seen.append(new)

    breaker = Breaker("a", SMALL, clock=lambda: now[0], wall=lambda: 0.0, listener=listener)
    for _ in range(2):
        breaker.settle(breaker.admit(), Outcome.FAILURE)
    now[0] = 60.0
    breaker.settle(breaker.admit(), Outcome.SUCCESS)
    assert seen == [State.OPEN, State.HALF_OPEN, State.CLOSED]


# What a refused request is told


def test_a_refusal_says_when_to_come_back() -> None:
    """The time in the details is in UTC; the header counts whole seconds; neither is too early."""
    world = World(DEFAULT).play("F*5 +10.5")
    error = world.refused()
    assert error.status == 503
    assert error.code == "CIRCUIT_OPEN"
    assert error.details == {"service": "orders", "retry_after": "2026-11-21T09:53:00Z"}
    assert error.headers == ((b"Retry-After", b"50"),)
    assert error.reason == "open"
    assert "orders" in error.message


def test_a_refusal_is_never_for_zero_seconds() -> None:
    """Nobody is told to come back at once."""
    world = World(DEFAULT).play("F*5 +59.999")
    assert world.refused().headers == ((b"Retry-After", b"1"),)


def test_a_refusal_while_half_open_is_for_a_moment() -> None:
    """A probe is under way, and its answer decides."""
    error = World(DEFAULT).play("F*5 +60 a").refused()
    assert error.headers == ((b"Retry-After", b"1"),)
    assert error.details["retry_after"] == "2026-11-21T09:53:01Z"
    assert error.reason == "half open, all probes in flight"


def test_a_recovery_in_the_far_future_has_a_date() -> None:
    """There is no date after the year 9999, and a refusal must not fail for that."""
    error = World(replace(DEFAULT, recovery_timeout=1e15)).play("F*5").refused()
    assert error.details["retry_after"] == "9999-12-31T23:59:59Z"


# Permits


def test_requests_share_a_permit_while_closed() -> None:
    """Nothing is made for a request that depends on nothing; a probe has its own."""
    world = World(THREE).play("a*2")
    assert world.flying[0] is world.flying[1]
    assert not world.flying[0].probe
    world.play("F*5 +60 a*2")
    assert world.flying[2] is not world.flying[3]
    assert world.flying[2].probe


def test_a_probe_has_no_tally() -> None:
    """All calls of a closed period are counted together; a probe is settled by itself."""
    closed, probe = World(DEFAULT).play("a F*5 +60 a").flying
    assert closed.tally is not None
    assert probe.tally is None
    assert (closed.probe, probe.probe) == (False, True)


def test_a_client_that_leaves_costs_no_look_at_the_clock() -> None:
    """A request that says nothing about the service is not counted, so it needs no time."""

    def clock() -> float:
        raise AssertionError("looked at the clock")

    breaker = Breaker("a", DEFAULT, clock=clock, wall=clock, listener=lambda *_: None)
    breaker.settle(breaker.admit(), Outcome.NEUTRAL)


@pytest.mark.parametrize("again", OUTCOMES.values())
@pytest.mark.parametrize("first", OUTCOMES.values())
def test_settling_a_probe_twice_is_settling_it_once(first: Outcome, again: Outcome) -> None:
    """No slot is freed twice, and no probe counts twice."""
    world = World(THREE).play("F*5 +60")
    probe = world.breaker.admit()
    world.breaker.settle(probe, first)
    before = world.breaker.snapshot()
    world.breaker.settle(probe, again)
    assert world.breaker.snapshot() == before
    assert before.probes_in_flight == 0


@pytest.mark.parametrize(
    ("body", "uploading"), [(None, False), (Coming(), True), (Coming(complete=True), False)]
)
def test_who_is_sending(body: Coming | None, uploading: bool) -> None:
    """Whoever has a body that has not come in whole."""
    permit = Permit()
    permit.body = body
    assert permit.uploading is uploading


def test_an_upload_is_seen_until_its_lease_ends() -> None:
    """It is under way like any other; at the end of its lease nobody is blamed, nor told anything."""
    world = World(THREE).play("F*5 +60 u a")
    world.moves.clear()
    assert world.breaker.snapshot().probes_in_flight == 2
    world.play("z +29.9")
    assert world.breaker.snapshot().probes_in_flight == 1
    world.play("+0.1")
    assert world.breaker.snapshot().probes_in_flight == 0
    assert world.moves == []


# What an exchange says about its upstream


@pytest.mark.parametrize("status", [500, 502, 503, 504, 600, 999])
def test_broken_answers_are_failures(status: int) -> None:
    """The service says itself that it is broken."""
    assert judge(None, status) is Outcome.FAILURE


@pytest.mark.parametrize("status", [101, 200, 204, 304, 400, 401, 404, 422, 429, 501, 505, 511])
def test_other_answers_are_successes(status: int) -> None:
    """Whoever says that the request is wrong is well."""
    assert judge(None, status) is Outcome.SUCCESS


@pytest.mark.parametrize(
    "error",
    [ConnectFailed, ConnectTimeout, UpstreamReset, StaleConnection, BadResponse, UpstreamTimeout],
)
@pytest.mark.parametrize("status", [0, 200])
def test_errors_of_upstreams_are_failures(error: type[GatewayError], status: int) -> None:
    """No connection, no answer, a broken one: also when it broke after a good beginning."""
    assert judge(error("x"), status) is Outcome.FAILURE


@pytest.mark.parametrize(
    "error",
    [
        ClientGone,
        RequestTimeout,
        PayloadTooLarge,
        InvalidRequest,
        InternalError,
        ServiceUnavailable,
    ],
)
@pytest.mark.parametrize("status", [0, 200, 503])
def test_other_errors_say_nothing(error: type[GatewayError], status: int) -> None:
    """A client that leaves or is at fault, a bug of ours, nobody there to ask."""
    assert judge(error("x"), status) is Outcome.NEUTRAL


def test_no_answer_and_no_error_say_nothing() -> None:
    """An exchange that was cut off by our own end is held against nobody."""
    assert judge(None, 0) is Outcome.NEUTRAL


# Looking at it


def test_snapshot_of_a_closed_one() -> None:
    """Failures that are too old are not shown."""
    world = World(DEFAULT).play("F +100 F*2 +30")
    assert world.breaker.snapshot() == Snapshot("orders", State.CLOSED, 2, None, None, 0, 2)


def test_snapshot_of_an_open_one() -> None:
    """When it opened, and when it will let somebody pass."""
    world = World(DEFAULT).play("F*5 +10.5")
    assert world.breaker.snapshot() == Snapshot(
        service="orders",
        state=State.OPEN,
        failures=5,
        opened_at="2026-11-21T09:52:00Z",
        retry_after="2026-11-21T09:53:00Z",
        probes_in_flight=0,
        calls=5,
        reason="5 of 5 calls failed within 120 s",
    )


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("S F*4", None),
        ("S F*5", "5 of 6 calls failed within 120 s, the last one with status 502"),
        ("F*5 +60", "5 of 5 calls failed within 120 s, the last one with status 502"),
        ("F*5 +60 F", "a probe failed with status 502"),
        ("F*5 +60 a +30", "a probe was not answered within 30 s"),
        ("F*5 +60 S", None),
    ],
)
def test_snapshot_says_why_it_is_open(script: str, reason: str | None) -> None:
    """How many calls failed, or what became of the last probe; a closed breaker gives no reason."""
    world = World(HALF, cause="status 502").play(script)
    assert world.breaker.snapshot().reason == reason


def test_snapshot_counts_all_failures() -> None:
    """As many as its reason says, also where there were more than the threshold before the share was reached."""
    snapshot = World(HALF, cause="status 502").play("S*8 F*8").breaker.snapshot()
    assert (snapshot.failures, snapshot.calls) == (8, 16)
    assert (snapshot.reason or "").startswith("8 of 16 calls failed")


def test_snapshot_of_a_half_open_one() -> None:
    """Looking is enough to see that its time has come; and how many are under way."""
    world = World(THREE).play("F*5 +60")
    assert world.breaker.snapshot().state is State.HALF_OPEN
    world.play("a*2 +1")
    shown = world.breaker.snapshot()
    assert (shown.state, shown.probes_in_flight) == (State.HALF_OPEN, 2)
    assert (shown.opened_at, shown.retry_after) == ("2026-11-21T09:52:00Z", None)


def test_snapshot_sees_leases_end() -> None:
    """A probe that hangs is not shown as under way for ever; it opened at the end of its lease."""
    shown = World(DEFAULT).play("F*5 +60 a +40").breaker.snapshot()
    assert (shown.state, shown.probes_in_flight) == (State.OPEN, 0)
    assert shown.opened_at == "2026-11-21T09:53:30Z"


# Other rules after a reload

RELOADS = {
    "closed: failures are kept": (DEFAULT, "F*4", DEFAULT, "F o"),
    "closed: a lower threshold opens with the next failure": (DEFAULT, "F*3", SMALL, "c S c F o"),
    "closed: a higher threshold needs the rest": (
        DEFAULT,
        "F*4",
        replace(DEFAULT, failure_threshold=7),
        "F*2 c F o",
    ),
    "closed: a shorter window forgets": (DEFAULT, "F +50 F*3", SMALL, "+10 F c"),
    "closed: calls are kept": (BUSY, "S*8", replace(BUSY, failure_threshold=3), "F*2 c F o"),
    "closed: known failures are calls": (
        DEFAULT,
        "F*4",
        replace(BUSY, min_throughput=7),
        "F*2 c F o",
    ),
    "closed: more calls are wanted": (
        BUSY,
        "S*8",
        replace(BUSY, min_throughput=20),
        "F*2 c F*10 o",
    ),
    "closed: calls no longer matter": (BUSY, "S F", SMALL, "F o"),
    "closed: permits stay good": (DEFAULT, "a*5", DEFAULT, "f*4 c f o"),
    "open: a shorter recovery counts from the start": (
        DEFAULT,
        "F*5 +30",
        replace(DEFAULT, recovery_timeout=30.0),
        "h",
    ),
    "open: a longer one, too": (
        DEFAULT,
        "F*5 +59",
        replace(DEFAULT, recovery_timeout=90.0),
        "+30 o ! +1 h",
    ),
    "open: what was due is done by the old rules": (
        DEFAULT,
        "F*5 +60",
        replace(DEFAULT, recovery_timeout=90.0),
        "h",
    ),
    "half open: probes stay in flight": (DEFAULT, "F*5 +60 a", DEFAULT, "! s c"),
    "half open: more probes": (DEFAULT, "F*5 +60 a", THREE, "a*2 ! s*2 h s c"),
    "half open: fewer probes than in flight": (THREE, "F*5 +60 a*3", DEFAULT, "! h s c"),
    "half open: fewer, and a client leaves": (THREE, "F*5 +60 a*2", DEFAULT, "n ! n h a ! s c"),
    "half open: as many as went well": (THREE, "F*5 +60 S*2", replace(DEFAULT, probes=2), "c"),
    "half open: and one in flight": (THREE, "F*5 +60 S a", DEFAULT, "c f c F*4 c"),
    "half open: a shorter lease": (
        DEFAULT,
        "F*5 +60 a +20",
        replace(DEFAULT, half_open_timeout=10.0),
        "o +49 ! +1 h",
    ),
    "half open: a longer lease": (
        DEFAULT,
        "F*5 +60 a +20",
        replace(DEFAULT, half_open_timeout=50.0),
        "+29 h +1 o",
    ),
    "half open: an upload makes way": (DEFAULT, "F*5 +60 u", DEFAULT, "! +1 a ! f h s c"),
    "half open: there is room beside an upload": (DEFAULT, "F*5 +60 u", THREE, "a*2 s*2 h s c"),
    "half open: as many as went well, and an upload": (
        THREE,
        "F*5 +60 S*2 u",
        replace(DEFAULT, probes=2),
        "c f c F*4 c",
    ),
    "half open: a shorter lease for an upload": (
        DEFAULT,
        "F*5 +60 u +20",
        replace(DEFAULT, half_open_timeout=10.0),
        "h a ! f h s c",
    ),
    "half open: a longer lease for an upload": (
        DEFAULT,
        "F*5 +60 u +29",
        replace(DEFAULT, half_open_timeout=50.0),
        "+20 h e s c",
    ),
}


@pytest.mark.parametrize(("before", "script", "after", "then"), RELOADS.values(), ids=RELOADS)
def test_reload(before: Circuit, script: str, after: Circuit, then: str) -> None:
    """New rules come into force without forgetting what happened under the old ones."""
    world = World(before).play(script)
    world.breaker.apply(after)
    world.play(then)


# The documentation


def test_the_picture_is_the_table() -> None:
    """The page shows the states as they are: `make docs` was run."""
    page = RESILIENCE.read_text(encoding="utf-8")
    assert states() in page
    assert with_states(page) == page
    assert with_states(page.replace("--> HALF_OPEN", "--> CLOSED")) == page
    arrows = [line for line in states().splitlines() if "-->" in line and "[*]" not in line]
    assert len(arrows) == sum(map(len, TRANSITIONS.values()))
