"""What goes on beside the token endpoints: revocations are followed, and that ends when the gateway does."""

import asyncio
from pathlib import Path

import pytest

from propylon.assembly import accounts as module
from propylon.assembly.accounts import TokenServices
from propylon.config.models.schema import GatewayConfig
from propylon.errors import ServiceUnavailable
from propylon.proxy.authenticate.claims import Verified
from tests.config.texts import SECRET


async def nobody(token: bytes) -> Verified:
    """Know nobody."""
    raise AssertionError


@pytest.fixture
def accounts(tmp_path: Path) -> TokenServices:
    """Those of a gateway, whose database is not there yet."""
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
        accounts.start()
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
        accounts.start()
        while not said:
            await asyncio.sleep(0)
        await accounts.close()

    asyncio.run(main())
    assert said == ["asked", "answered"]


def test_it_can_be_started_again(accounts: TokenServices) -> None:
    """A gateway that stopped may start once more; it is known again what was taken back."""

    async def main() -> None:
        for _ in range(2):
            accounts.start()
            async with asyncio.timeout(10):
                while accounts.missing() is not None:
                    await asyncio.sleep(0.001)
            await accounts.close()
            assert accounts._following is None

    asyncio.run(main())
