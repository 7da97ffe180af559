"""Spans on their way to a collector that is away, slow, or does not want them: nothing is lost below the bound."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from propylon.errors import ConnectFailed
from propylon.telemetry.export import Exporter, ExportRules
from propylon.upstream.fetch import Fetched
from tests.support.virtual import run

TAKEN = Fetched(200, b"", b"")


class Away(Exception):
    """No answer."""


class System:
    """An exporter, and a collector that answers by its script; then it takes all."""

    def __init__(self, *script: Any, **rules: Any) -> None:
        self.script = list(script)
        self.counts: Counter[str] = Counter()
        self.messages: list[tuple[float, list[bytes]]] = []
        self.taken: list[bytes] = []
        self.loop = asyncio.get_running_loop()
        self.exporter = Exporter(
            ExportRules(**{"interval": 5.0, **rules}), self.post, b",".join, self.rejected,
            count=self.count, loop=self.loop, chance=lambda: 1.0,
        )  # fmt: skip

    def count(self, result: str, spans: int) -> None:
        """Count."""
        self.counts[result] += spans

    def rejected(self, body: bytes) -> tuple[int, str]:
        """The body says how many."""
        return int(body), "too old"

    async def post(self, message: bytes) -> Fetched:
        """Answer by the script."""
        self.messages.append((self.loop.time() - 1000, message.split(b",")))
        await asyncio.sleep(0.01)
        answer = self.script.pop(0) if self.script else TAKEN
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            answer = Fetched(answer, b"", b"")
        if answer.status == 200:
            self.taken += message.split(b",")
        return answer

    def put(self, *numbers: int) -> None:
        """Take a span for each number, each an exchange of its own."""
        for number in numbers:
            self.exporter.put([b"%d" % number])

    @property
    def numbers(self) -> list[int]:
        """What the collector has."""
        return [int(one) for one in self.taken]


Story = Callable[[], Coroutine[Any, Any, None]]


def told(story: Story) -> None:
    """Run a story on a loop where waiting takes no time."""
    run(story())


def test_spans_wait_for_others_and_whole_batches_do_not() -> None:
    """One message for what came within the interval; at once where there is a batch."""

    async def story() -> None:
        system = System(batch=3)
        system.put(1, 2)
        await asyncio.sleep(4.9)
        assert system.messages == []
        await asyncio.sleep(0.2)
        assert (system.messages, system.counts) == ([(5.0, [b"1", b"2"])], {"sent": 2})
        system.put(3, 4, 5, 6)
        await asyncio.sleep(0.1)
        assert system.numbers == [1, 2, 3, 4, 5, 6]
        assert system.exporter.waiting == 0

    told(story)


@pytest.mark.parametrize("failure", [429, 502, 503, 504, ConnectFailed("no")])
def test_nothing_is_lost_while_the_collector_is_away(
    failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """In their order, once each, when it is back; the log says so once, and once that it is back."""

    async def story() -> None:
        system = System(*[failure] * 20, batch=4)
        for number in range(50):
            system.put(number)
            await asyncio.sleep(0.5)
        await asyncio.sleep(200)
        assert system.numbers == list(range(50))
        assert system.counts == {"sent": 50}
        pauses = [
            later[0] - one[0]
            for one, later in zip(system.messages, system.messages[1:20], strict=False)
        ]
        assert pauses[:5] == pytest.approx([0.26, 0.51, 1.01, 2.01, 4.01])
        assert max(pauses) < 5.1

    with caplog.at_level(logging.WARNING):
        told(story)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("traces: the collector does not take spans: ")
    assert said[1] == "traces: the collector takes spans again"


def test_the_collector_says_when() -> None:
    """Retry-After, but not for ever."""

    async def story() -> None:
        later = Fetched(503, b"\r\nRetry-After: 30", b"")
        never = Fetched(429, b"\r\nRetry-After: 86400", b"")
        system = System(later, never)
        system.put(1)
        await asyncio.sleep(200)
        times = [at for at, _ in system.messages]
        assert times == pytest.approx([5.0, 35.01, 95.02])

    told(story)


def test_beyond_the_bound_whole_exchanges_are_lost(caplog: pytest.LogCaptureFixture) -> None:
    """And counted, and said once; what is being sent has its place, too."""

    async def story() -> None:
        system = System(*[503] * 3, queue=10, batch=5)
        system.put(*range(5))
        await asyncio.sleep(0.1)  # under way
        system.exporter.put([b"5", b"6", b"7"])
        system.exporter.put([b"x", b"y", b"z"])
        system.put(8, 9)
        system.put(10)
        assert system.exporter.waiting == 10
        await asyncio.sleep(60)
        assert system.numbers == list(range(10))
        assert system.counts == {"sent": 10, "dropped": 4}

    with caplog.at_level(logging.WARNING):
        told(story)
    said = [record.getMessage() for record in caplog.records]
    assert said[1:] == [
        "traces: spans are lost: 8 wait already",
        "traces: the collector takes spans again",
        "traces: 4 spans were lost meanwhile",
    ]


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_what_is_refused_is_not_sent_again(status: int) -> None:
    """Sending it again would change nothing."""

    async def story() -> None:
        system = System(status)
        system.put(1)
        await asyncio.sleep(6)
        system.put(2)
        await asyncio.sleep(6)
        assert (system.numbers, system.counts) == ([2], {"refused": 1, "sent": 1})

    told(story)


def test_a_part_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and not sent again."""

    async def story() -> None:
        system = System(Fetched(200, b"", b"2"))
        system.put(1, 2, 3)
        await asyncio.sleep(6)
        assert (len(system.messages), system.counts) == (1, {"sent": 1, "refused": 2})

    with caplog.at_level(logging.WARNING):
        told(story)
    assert "it has rejected spans: too old" in caplog.text


def test_the_operator_bounds_how_long() -> None:
    """Then the batch is lost, and the next one is tried."""

    async def story() -> None:
        system = System(*[503] * 6, retry_for=3.0)
        system.put(1, 2)
        await asyncio.sleep(12)
        assert system.counts == {"dropped": 2}
        system.put(3)
        await asyncio.sleep(60)
        assert system.numbers == [3]

    told(story)


def test_a_stop_sends_what_is_left() -> None:
    """At once, though nothing was due; what comes later is counted as left."""

    async def story() -> None:
        system = System(batch=2)
        system.put(1, 2, 3)
        await system.exporter.close(2.0)
        assert (system.numbers, system.counts) == ([1, 2, 3], {"sent": 3})
        system.put(4)
        await asyncio.sleep(60)
        assert system.counts == {"sent": 3, "left": 1}

    told(story)


def test_a_stop_does_not_wait_for_long(caplog: pytest.LogCaptureFixture) -> None:
    """It hurries, and gives up after its time."""

    async def story() -> None:
        system = System(*[503] * 1000)
        system.put(1, 2, 3)
        await asyncio.sleep(20)  # in a long pause
        began = system.loop.time()
        await system.exporter.close(2.0)
        assert system.loop.time() - began <= 2.0
        assert len([at for at, _ in system.messages if at + 1000 >= began]) >= 4
        assert (system.exporter.waiting, system.counts) == (0, {"left": 3})

    with caplog.at_level(logging.WARNING):
        told(story)
    assert "traces: 3 spans were not sent before the stop" in caplog.text
