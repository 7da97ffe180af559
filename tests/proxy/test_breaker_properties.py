"""Anything that can happen to a breaker, in any order, beside a model with timers."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from propylon.errors import CircuitOpen
from propylon.proxy.breaker import Breaker, Circuit, Outcome, Permit, State

CIRCUITS = st.builds(
    Circuit,
    failure_threshold=st.integers(1, 4),
    failure_window=st.integers(1, 20).map(float),
    min_throughput=st.integers(1, 8),
    recovery_timeout=st.integers(1, 20).map(float),
    half_open_timeout=st.integers(1, 20).map(float),
    probes=st.integers(1, 3),
)
OUTCOMES = st.sampled_from(Outcome)
A_DAY = 86_400


class Flight:
    """A request that was let through: what the model knows of it."""

    def __init__(self, began: int, spell: int) -> None:
        self.began = began
        self.spell = spell


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
            leases = [self.now - probe.began for probe in self.probes]
            if any(lease >= self.circuit.half_open_timeout for lease in leases):
                self.turn(State.OPEN)
            elif self.state is State.OPEN and self.rested():
                self.turn(State.HALF_OPEN)

    def rested(self) -> bool:
        """Whether it was open for long enough."""
        return self.now - self.since >= self.circuit.recovery_timeout

    def admit(self) -> Flight | None:
        """Return what sets out, or None if it may not."""
        flight = Flight(self.now, self.spell)
        if self.state is State.HALF_OPEN:
            if len(self.probes) + self.proofs >= self.circuit.probes:
                return None
            self.probes.append(flight)
        return None if self.state is State.OPEN else flight

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
        return failures >= circuit.failure_threshold and len(recent) >= circuit.min_throughput


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
            flight = self.model.admit()
            try:
                permit = self.breaker.admit()
            except CircuitOpen as refusal:
                assert flight is None
                assert int(refusal.headers[0][1]) >= 1
            else:
                assert flight is not None
                self.flights.append((permit, flight))

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
        shown = self.breaker.snapshot()
        assert shown.state is self.model.state
        assert shown.probes_in_flight == len(self.model.probes)
        assert shown.probes_in_flight <= self.model.circuit.probes
        assert (shown.opened_at is None) == (shown.state is State.CLOSED)
        assert (shown.retry_after is None) == (shown.state is not State.OPEN)

    def teardown(self) -> None:
        """Whatever happened, a service that is well again is asked again."""
        if hasattr(self, "model"):
            self.model.wait(100)
            for _ in range(self.model.circuit.probes):
                self.breaker.settle(self.breaker.admit(), Outcome.SUCCESS)
            assert self.breaker.state is State.CLOSED


class Unwatched(Machine):
    """The same, but nobody looks at it between the requests."""

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
        self.breaker.adopt(circuit)
        self.circuit = circuit
        if before.state is State.CLOSED:
            assert self.breaker.state is State.CLOSED

    @rule(times=st.integers(1, 5))
    def set_out(self, times: int) -> None:
        """Some are let through: never more than there may be now."""
        for _ in range(times):
            try:
                permit = self.breaker.admit()
            except CircuitOpen:
                assert self.breaker.state is not State.CLOSED
            else:
                self.permits.append(permit)
                shown = self.breaker.snapshot()
                assert shown.probes_in_flight <= self.circuit.probes

    @rule(index=st.integers(0, 20), outcome=OUTCOMES)
    def end(self, index: int, outcome: Outcome) -> None:
        """One ends."""
        if self.permits:
            self.breaker.settle(self.permits.pop(index % len(self.permits)), outcome)

    @rule(seconds=st.integers(0, 25))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds

    def teardown(self) -> None:
        """A service that is well again is asked again."""
        if hasattr(self, "circuit"):
            self.now += 100
            for _ in range(self.circuit.probes):
                self.breaker.settle(self.breaker.admit(), Outcome.SUCCESS)
            assert self.breaker.state is State.CLOSED


ENOUGH = settings(
    max_examples=40, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)

TestBesideTheModel = Machine.TestCase
TestBesideTheModel.settings = ENOUGH
TestUnwatched = Unwatched.TestCase
TestUnwatched.settings = ENOUGH
TestReloaded = Reloaded.TestCase
TestReloaded.settings = ENOUGH
