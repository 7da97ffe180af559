"""What goes on beside the token endpoints: revocations are followed, and that ends when the gateway does."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from propylon.assembly import accounts as module
from propylon.assembly.accounts import TokenServices
from propylon.config.models.schema import GatewayConfig
from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from propylon.proxy.authenticate.revocation import Kind, Revocation
from propylon.stores.siblings import MISSED, Message, Siblings
from tests.config.texts import SECRET


async def nobody(token: bytes) -> Verified:
    """Know nobody."""
    raise AssertionError


@pytest.fixture
def accounts(tmp_path: Path) -> TokenServices:
    """Those of a gateway, whose database is not there yet."""
    return token_services(tmp_path)


def token_services(tmp_path: Path) -> TokenServices:
    """Those of one worker."""
    database = f"sqlite:///{tmp_path}/users.db"
    auth = {"jwt": {"secret": SECRET}, "tokens": {"database": database}}
    return TokenServices(GatewayConfig.model_validate({"auth": auth}), nobody)


class Driver:
    """A database that turns a cancellation in the middle of a question into an error of its own."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed_under = False
        self._asking = False

    async def catch_up(self) -> None:
        """Wait for the answer for ever; take a moment to let go, the first time."""
        self.asked += 1
        self._asking = True
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if self.asked > 1:
                raise
            await asyncio.sleep(0.01)
            raise ServiceUnavailable("closed") from None
        finally:
            self._asking = False

    async def close(self) -> None:
        """Note whether a question was under way."""
        self.closed_under = self._asking


def test_following_ends_whatever_becomes_of_its_cancellation(
    accounts: TokenServices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks no more, before the database is closed; nothing waits for it for ever, and nobody is warned."""
    driver = Driver()
    monkeypatch.setattr(module, "_LET_GO", 0.05)
    monkeypatch.setattr(accounts._journal, "catch_up", driver.catch_up)
    monkeypatch.setattr(accounts._database, "close", driver.close)

    async def main() -> None:
        accounts.start(Siblings())
        following = accounts._following
        assert following is not None
        while not driver.asked:
            await asyncio.sleep(0)
        await accounts.close()
        await asyncio.wait({following}, timeout=10)
        assert following.done()

    asyncio.run(main())
    assert (driver.asked, driver.closed_under) == (1, False)
    assert [record.getMessage() for record in caplog.records] == []


def test_a_question_under_way_is_let_end(
    accounts: TokenServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is cancelled while it connects leaves a thread of the driver's, which outlives the loop."""
    said: list[str] = []

    async def catch_up() -> None:
        said.append("asked")
        await asyncio.sleep(0.05)
        said.append("answered")

    monkeypatch.setattr(accounts._journal, "catch_up", catch_up)

    async def main() -> None:
        accounts.start(Siblings())
        while not said:
            await asyncio.sleep(0)
        await accounts.close()

    asyncio.run(main())
    assert said == ["asked", "answered"]


def test_it_can_be_started_again(accounts: TokenServices) -> None:
    """A gateway that stopped may start once more; it is known again what was taken back."""

    async def main() -> None:
        for _ in range(2):
            accounts.start(Siblings())
            async with asyncio.timeout(10):
                while accounts.missing() is not None:
                    await asyncio.sleep(0.001)
            await accounts.close()
            assert accounts._following is None

    asyncio.run(main())


# What is told to the other workers


class Wire:
    """The facts of two workers that are in one process: what one tells, the other hears at once."""

    name = "me"

    def __init__(self) -> None:
        self.other: Wire | None = None
        self.told: list[tuple[str, Message]] = []
        self.callbacks: dict[str, Callable[[Message], None]] = {}

    def tell(self, topic: str, message: Message, to: str | None = None) -> None:
        """Tell the other."""
        self.told.append((topic, message))
        if self.other is not None:
            self.other.callbacks[topic](message)

    def hear(self, topic: str, callback: Callable[[Message], None]) -> None:
        """Note who wants to hear."""
        self.callbacks[topic] = callback


async def until(true: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


def test_what_one_worker_took_back_another_knows_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told that there is a new row, and does not wait until it would have looked."""
    monkeypatch.setattr(module, "_CATCH_UP", 3600.0)

    async def main() -> None:
        here, there = token_services(tmp_path), token_services(tmp_path)
        wires = Wire(), Wire()
        wires[0].other, wires[1].other = wires[1], wires[0]
        here.start(wires[0])
        there.start(wires[1])
        await until(lambda: here.missing() is there.missing() is None)
        for number in range(3):
            await here._journal.revoke(Revocation(Kind.ID, f"token {number}", time.time() + 60))
            await until(lambda known=number + 1: len(there.revocations._ids) == known)  # type: ignore[misc]
        assert wires[0].told == [("revocations", {})] * 3
        await here.close()
        await there.close()

    asyncio.run(main())


def test_a_worker_that_missed_something_looks(
    accounts: TokenServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not know what it was, and reads what is new."""
    monkeypatch.setattr(module, "_CATCH_UP", 3600.0)
    asked: list[None] = []

    async def catch_up() -> None:
        asked.append(None)

    monkeypatch.setattr(accounts._journal, "catch_up", catch_up)

    async def main() -> None:
        wire = Wire()
        accounts.start(wire)
        await until(lambda: len(asked) == 1)
        wire.callbacks["revocations"](MISSED)
        await until(lambda: len(asked) == 2)
        await accounts.close()

    asyncio.run(main())


def test_many_in_a_row_are_read_together(
    accounts: TokenServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes back thousands of tokens does not have every worker ask thousands of times."""
    monkeypatch.setattr(module, "_CATCH_UP", 3600.0)
    asked: list[None] = []

    async def main() -> None:
        answer = asyncio.Event()

        async def catch_up() -> None:
            asked.append(None)
            await answer.wait()

        monkeypatch.setattr(accounts._journal, "catch_up", catch_up)
        wire = Wire()
        accounts.start(wire)
        await until(lambda: len(asked) == 1)
        for _ in range(1000):
            wire.callbacks["revocations"]({})
        answer.set()
        await until(lambda: len(asked) == 2)
        for _ in range(10):
            await asyncio.sleep(0)
        await accounts.close()
        assert len(asked) == 2

    asyncio.run(main())


def test_without_others_nothing_is_told(accounts: TokenServices) -> None:
    """Before the start, and in a command, there is nobody to tell."""
    accounts._announce()
