"""What registers with one worker, in all of them: whatever crosses, in the end all of them agree."""

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from propylon.errors import NotFound
from tests.assembly.test_gossip import ONE, TWO, Gateway, Message, coming, going
from tests.support.examples import examples


@pytest.mark.parametrize(
    "order", list(itertools.permutations([coming(1.0), going(2.0), coming(3.0), going(4.0)]))
)
def test_in_whichever_order(order: tuple[Message, ...]) -> None:
    """It has gone, and what is older does not bring it back."""
    worker = Gateway().workers[0]
    for message in order:
        worker.hear(message)
    assert worker.ids() == []


class Crossing(RuleBasedStateMachine):
    """Workers that are told this and that, hear of each other when it pleases, and begin anew."""

    @initialize(workers=st.integers(2, 3))
    def begin(self, workers: int) -> None:
        """Begin with nobody."""
        self.gateway = Gateway(workers)
        self.places = workers
        self.there: dict[str, bool] = {}

    @rule(place=st.integers(0, 2), host=st.sampled_from([ONE, TWO]))
    def register(self, place: int, host: str) -> None:
        """One comes."""
        self.gateway.workers[place % self.places].register(host=host)
        self.there[f"{host}:80"] = True

    @rule(place=st.integers(0, 2), host=st.sampled_from([ONE, TWO]))
    def leave(self, place: int, host: str) -> None:
        """One goes, be it that this worker has not heard of it so far."""
        worker = self.gateway.workers[place % self.places]
        if f"{host}:80" in worker.ids():
            worker.leave(f"{host}:80")
        else:
            with pytest.raises(NotFound):
                worker.leave(f"{host}:80")
        self.there[f"{host}:80"] = False

    @rule(one=st.integers(0, 2), other=st.integers(0, 2))
    def deliver(self, one: int, other: int) -> None:
        """One message arrives."""
        source, target = one % self.places, other % self.places
        if source != target:
            self.gateway.deliver(source, target)

    @rule(place=st.integers(0, 2))
    def restart(self, place: int) -> None:
        """One dies."""
        self.gateway.restart(place % self.places)

    def teardown(self) -> None:
        """When everything has arrived, all of them know what was said last."""
        if hasattr(self, "gateway"):
            self.gateway.settle()
            expected = sorted(one for one, there in self.there.items() if there)
            assert self.gateway.ids == [expected] * self.places


TestCrossing = Crossing.TestCase
TestCrossing.settings = examples(60, stateful_step_count=30)
