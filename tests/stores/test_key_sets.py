"""What a worker has fetched of a published key set is there for the others, and for those that replace them."""

import pytest

from propylon.stores.key_sets import KeySets
from propylon.stores.siblings import MISSED, Message, Siblings
from propylon.stores.slot import Slot

URL, OTHER = "https://issuer.test/keys", "https://other.test/keys"


class Network:
    """The workers of a gateway, and what they tell each other at once."""

    def __init__(self) -> None:
        self.workers: list[Facts] = []
        self.told: list[Message] = []

    def worker(self) -> "Facts":
        """One more worker."""
        self.workers.append(Facts(self, str(len(self.workers))))
        return self.workers[-1]


class Facts:
    """One worker's way to the others."""

    def __init__(self, network: Network, name: str) -> None:
        self.name = name
        self._network = network
        self.callback = lambda message: None

    def hear(self, topic: str, callback: object) -> None:
        """Call this back."""
        self.callback = callback  # type: ignore[assignment]

    def tell(self, topic: str, message: Message, to: str | None = None) -> None:
        """Tell the others, or one."""
        self._network.told.append(message)
        for worker in self._network.workers:
            if worker is not self and to in (None, worker.name):
                worker.callback(message)


def test_siblings_hear_of_it() -> None:
    """Of what one worker fetches all others hear, each for the source that it follows."""
    network = Network()
    here, there = (KeySets(None, network.worker()) for _ in range(2))
    heard: list[bytes] = []
    there.of(URL).hear(heard.append)
    here.of(URL).keep(b"one")
    here.of(OTHER).keep(b"two")
    assert heard == [b"one"]
    assert (there.of(URL).find(), there.of(OTHER).find()) == (b"one", b"two")


def test_a_worker_that_starts_asks() -> None:
    """Without memory that was made before the fork its siblings tell it what they know, and nobody else."""
    network = Network()
    here, _ = (KeySets(None, network.worker()) for _ in range(2))
    here.of(URL).keep(b"one")
    network.told.clear()
    new = KeySets(None, network.worker())
    assert new.of(URL).find() == b"one"
    assert [message["op"] for message in network.told] == ["who", "fetched", "fetched"]


def test_a_worker_that_missed_something_asks() -> None:
    """It hears again what the others have."""
    network = Network()
    here, there = (KeySets(None, network.worker()) for _ in range(2))
    here._remember(URL, "one")
    assert there.of(URL).find() is None
    network.workers[1].callback(MISSED)
    assert there.of(URL).find() == b"one"


def test_a_replacement_finds_it_though_all_have_died() -> None:
    """What was fetched last is in memory that outlives the workers."""
    slot = Slot()
    KeySets(slot, Siblings()).of(URL).keep(b"one")
    KeySets(slot, Siblings()).of(URL).keep(b"two")
    assert KeySets(slot, Siblings()).of(URL).find() == b"two"
    assert KeySets(slot, Siblings()).of(OTHER).find() is None
    slot.close()


@pytest.mark.parametrize(("size", "told"), [(56 * 1024, True), (56 * 1024 + 1, False)])
def test_a_large_set_is_not_told(size: int, told: bool) -> None:
    """A message has a bound; such a set is only in the slot, and each worker fetches it."""
    network = Network()
    here, there = (KeySets(None, network.worker()) for _ in range(2))
    here.of(URL).keep(b"x" * size)
    assert (there.of(URL).find() is not None) is told


def test_memory_is_bounded() -> None:
    """Of the sources that reloads have named the latest are remembered."""
    sets = KeySets(None, Siblings())
    for number in range(20):
        sets.of(f"{URL}/{number}").keep(b"x")
    found = [sets.of(f"{URL}/{number}").find() for number in range(20)]
    assert found == [None] * 4 + [b"x"] * 16
