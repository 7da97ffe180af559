"""Anything that can happen to a breaker, in any order, beside a model with timers."""

from math import inf

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from propylon.errors import CircuitOpen
from propylon.services.breaker import Breaker, Circuit, Outcome, Permit, State
from tests.support.examples import examples

CIRCUITS = st.builds(
    Circuit,
    failure_threshold=st.integers(1, 4),
    failure_window=st.integers(1, 20).map(float),
    failure_rate=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    min_throughput=st.integers(1, 8),
    recovery_timeout=st.integers(1, 20).map(float),
    half_open_timeout=st.integers(1, 20).map(float),
    probes=st.integers(1, 3),
)
OUTCOMES = st.sampled_from(Outcome)
A_DAY = 86_400
PATIENCE = 1  # seconds that a client has to send its request in, before it makes way


class Coming:
    """A request's body, while its client sends it."""

    complete = False


class Flight:
    """A request that was let through: what the model knows of it."""

    def __init__(self, began: float, spell: int, body: Coming | None) -> None:
        self.began = began
        self.spell = spell
        self.body = body

    @property
    def uploading(self) -> bool:
        """Whether its client is still sending it."""
        return self.body is not None and not self.body.complete

    @property
    def is_whole(self) -> bool:
        """Whether it had a body to send, and has sent it."""
        return self.body is not None and self.body.complete


class Model:
    """The rules as they are written down: every event is kept, and time acts by itself."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.now = 0
        self.state = State.CLOSED
        self.spell = 0  # how often the state has changed
        self.since = 0
        self.calls: list[tuple[int, Outcome]] = []  # in this spell
        self.probes: list[Flight] = []  # in flight
        self.proofs = 0

    def turn(self, state: State) -> None:
        """Begin a new spell."""
        self.state = state
        self.spell += 1
        self.since = self.now
        self.calls, self.probes, self.proofs = [], [], 0

    def wait(self, seconds: int) -> None:
        """Let every second pass by itself, and whatever is due in it happen."""
        for _ in range(seconds):
            self.now += 1
            late = [probe for probe in self.probes if self.expired(probe)]
            self.probes = [probe for probe in self.probes if probe not in late or probe.is_whole]
            if any(probe.body is None for probe in late):
                self.turn(State.OPEN)
            elif self.state is State.OPEN and self.rested():
                self.turn(State.HALF_OPEN)
            for probe in [one for one in late if one.is_whole]:
                probe.began, probe.body = inf, None

    def look(self) -> None:
        """Somebody sees that a body has come in: only from now on does the upstream take the time."""
        for probe in self.probes:
            probe.began = min(probe.began, self.now)

    def rested(self) -> bool:
        """Whether it was open for long enough."""
        return self.now - self.since >= self.circuit.recovery_timeout

    def expired(self, probe: Flight) -> bool:
        """Whether the lease of a probe is over."""
        return self.now - probe.began >= self.circuit.half_open_timeout

    def admit(self, body: Coming | None) -> Flight | None:
        """Return what sets out, or None if it may not."""
        flight = Flight(self.now, self.spell, body)
        if self.state is State.HALF_OPEN:
            if not self.has_room():
                return None
            self.probes.append(flight)
        return None if self.state is State.OPEN else flight

    def has_room(self) -> bool:
        """Whether there is a slot, be it that of somebody who is still sending, and not a moment ago."""
        if len(self.probes) + self.proofs < self.circuit.probes:
            return True
        for probe in self.probes:
            if probe.uploading and self.now - probe.began >= PATIENCE:
                self.probes.remove(probe)
                return True
        return False

    def settle(self, flight: Flight, outcome: Outcome) -> None:
        """End it: once while it is a probe."""
        if flight.spell != self.spell:
            return
        if self.state is State.CLOSED:
            self.calls.append((self.now, outcome))
            if outcome is Outcome.FAILURE and self.failing():
                self.turn(State.OPEN)
        elif flight in self.probes:
            self.probes.remove(flight)
            self.proofs += outcome is Outcome.SUCCESS
            if outcome is Outcome.FAILURE:
                self.turn(State.OPEN)
            elif self.proofs == self.circuit.probes:
                self.turn(State.CLOSED)

    def failing(self) -> bool:
        """Count what is in the window, one by one."""
        recent = [
            outcome
            for time, outcome in self.calls
            if self.now - time < self.circuit.failure_window and outcome is not Outcome.NEUTRAL
        ]
        failures = recent.count(Outcome.FAILURE)
        circuit = self.circuit
        if failures < circuit.failure_threshold or len(recent) < circuit.min_throughput:
            return False
        return failures >= circuit.failure_rate * len(recent)


class Machine(RuleBasedStateMachine):
    """Requests that set out and end, or never do, while time stands still, passes or jumps."""

    @initialize(circuit=CIRCUITS)
    def begin(self, circuit: Circuit) -> None:
        """Both begin with the same rules."""
        self.model = Model(circuit)
        self.flights: list[tuple[Permit, Flight]] = []
        self.breaker = Breaker(
            "orders",
            circuit,
            clock=lambda: float(self.model.now),
            wall=lambda: 0.0,
            listener=lambda *_: None,
        )

    @rule(times=st.integers(1, 5))
    def set_out(self, times: int) -> None:
        """Some come at once: they are let through, or refused, as the model says."""
        for _ in range(times):
            self.let_through(None)

    @rule()
    def upload(self) -> None:
        """One comes whose client has only begun to send its body."""
        self.let_through(Coming())

    def let_through(self, body: Coming | None) -> None:
        """Let one set out, or have it refused; only of a probe does anybody look at the body."""
        flight = self.model.admit(body)
        try:
            permit = self.breaker.admit()
        except CircuitOpen as refusal:
            assert flight is None
            assert int(refusal.headers[0][1]) >= 1
        else:
            assert flight is not None
            if permit.probe:
                permit.body = body
            self.flights.append((permit, flight))

    @rule(index=st.integers(0, 20))
    def come_in(self, index: int) -> None:
        """A body has come in whole."""
        uploading = [flight for _, flight in self.flights if flight.uploading]
        if uploading:
            body = uploading[index % len(uploading)].body
            assert body is not None
            body.complete = True

    @rule(index=st.integers(0, 20), outcome=OUTCOMES)
    def end(self, index: int, outcome: Outcome) -> None:
        """One that set out some time ago ends, perhaps long after it mattered."""
        if self.flights:
            permit, flight = self.flights.pop(index % len(self.flights))
            self.breaker.settle(permit, outcome)
            self.model.settle(flight, outcome)

    @rule(index=st.integers(0, 20), outcome=OUTCOMES)
    def end_and_keep(self, index: int, outcome: Outcome) -> None:
        """One ends, and may end again, if it was a probe."""
        if self.flights:
            permit, flight = self.flights[index % len(self.flights)]
            if permit.probe:
                self.breaker.settle(permit, outcome)
                self.model.settle(flight, outcome)

    @rule(outcomes=st.lists(OUTCOMES, min_size=1, max_size=8))
    def ask(self, outcomes: list[Outcome]) -> None:
        """Requests that end before the next one comes."""
        for outcome in outcomes:
            before = len(self.flights)
            self.set_out(1)
            if len(self.flights) > before:
                self.end(before, outcome)

    @rule(seconds=st.integers(0, 25))
    def wait(self, seconds: int) -> None:
        """Nobody looks for a while."""
        self.model.wait(seconds)

    @rule(days=st.integers(1, 3))
    def jump(self, days: int) -> None:
        """The clock jumps: after the longest of all timeouts nothing is left to happen."""
        self.model.wait(100)
        self.model.now += days * A_DAY

    @invariant()
    def same(self) -> None:
        """The breaker is as the model, whenever somebody looks."""
        self.model.look()
        shown = self.breaker.snapshot()
        assert shown.state is self.model.state
        assert shown.probes_in_flight == len(self.model.probes)
        assert shown.probes_in_flight <= self.model.circuit.probes
        assert (shown.opened_at is None) == (shown.state is State.CLOSED)
        assert (shown.retry_after is None) == (shown.state is not State.OPEN)

    def teardown(self) -> None:
        """Whatever happened, a service that is well again is asked again."""
        if hasattr(self, "model"):
            for _ in range(2):  # a body that came in unseen has a lease of its own
                self.model.wait(100)
                self.same()
            for _ in range(self.model.circuit.probes):
                self.breaker.settle(self.breaker.admit(), Outcome.SUCCESS)
            assert self.breaker.state is State.CLOSED


class Unwatched(Machine):
    """The same, but nobody looks at it between the requests."""

    def come_in(self, index: int) -> None:
        """Not here: until when a body was coming in is known only to who has looked."""

    @invariant()
    def same(self) -> None:
        """Not now."""


class Reloaded(RuleBasedStateMachine):
    """Rules that change at any time: no model, but nothing gets out of hand, and nothing is stuck."""

    @initialize(circuit=CIRCUITS)
    def begin(self, circuit: Circuit) -> None:
        """Begin with some rules."""
        self.circuit = circuit
        self.now = 0.0
        self.permits: list[Permit] = []
        self.bodies: list[Coming] = []
        self.breaker = Breaker(
            "orders",
            circuit,
            clock=lambda: self.now,
            wall=lambda: self.now,
            listener=lambda *_: None,
        )

    @rule(circuit=CIRCUITS)
    def reload(self, circuit: Circuit) -> None:
        """Other rules: neither opens nor refuses what it would have let through."""
        before = self.breaker.snapshot()
        self.breaker.apply(circuit)
        self.circuit = circuit
        if before.state is State.CLOSED:
            assert self.breaker.state is State.CLOSED

    @rule(times=st.integers(1, 5))
    def set_out(self, times: int) -> None:
        """Some are let through, if there may be more; nobody else, while a client is still sending."""
        for _ in range(times):
            before = self.breaker.snapshot().probes_in_flight
            try:
                permit = self.breaker.admit()
            except CircuitOpen:
                assert self.breaker.state is not State.CLOSED
                slow = [one for one in self.breaker._probes.items() if one[0].uploading]
                assert all(began + PATIENCE > self.now for _, began in slow)
            else:
                self.permits.append(permit)
                # Who makes way makes way for one: of those in flight there are no more than before.
                now = self.breaker.snapshot().probes_in_flight
                assert now <= max(before, self.circuit.probes)

    @rule()
    def upload(self) -> None:
        """One whose client has only begun to send its body."""
        before = len(self.permits)
        self.set_out(1)
        if len(self.permits) > before and self.permits[-1].probe:
            self.permits[-1].body = Coming()
            self.bodies.append(self.permits[-1].body)

    @rule(index=st.integers(0, 20))
    def come_in(self, index: int) -> None:
        """A body has come in whole."""
        if self.bodies:
            self.bodies.pop(index % len(self.bodies)).complete = True

    @rule(index=st.integers(0, 20), outcome=OUTCOMES)
    def end(self, index: int, outcome: Outcome) -> None:
        """One ends."""
        if self.permits:
            self.breaker.settle(self.permits.pop(index % len(self.permits)), outcome)

    @rule(outcome=OUTCOMES)
    def end_all(self, outcome: Outcome) -> None:
        """All of them end: no slot is held by anybody then."""
        while self.permits:
            self.end(0, outcome)
        assert self.breaker.snapshot().probes_in_flight == 0

    @rule(seconds=st.integers(0, 25))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds

    @invariant()
    def nobody_is_counted_who_has_ended(self) -> None:
        """A slot belongs to a probe that was let through and has not ended."""
        if hasattr(self, "permits"):
            in_flight = set(self.breaker._probes)
            assert in_flight <= {permit for permit in self.permits if permit.probe}

    def teardown(self) -> None:
        """A service that is well again is asked again."""
        if hasattr(self, "circuit"):
            for _ in range(2):  # a body that came in unseen has a lease of its own
                self.now += 100
                self.nobody_is_counted_who_has_ended()
                assert self.breaker.state is not State.OPEN
            for _ in range(self.circuit.probes):
                self.breaker.settle(self.breaker.admit(), Outcome.SUCCESS)
            assert self.breaker.state is State.CLOSED


ENOUGH = examples(40, stateful_step_count=40, report_multiple_bugs=False)

TestBesideTheModel = Machine.TestCase
TestBesideTheModel.settings = ENOUGH
TestUnwatched = Unwatched.TestCase
TestUnwatched.settings = ENOUGH
TestReloaded = Reloaded.TestCase
TestReloaded.settings = ENOUGH
