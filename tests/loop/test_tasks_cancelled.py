"""Cancelled by whom."""

import asyncio

import pytest

from propylon.loop.tasks import spawn_forever
from tests.loop.test_tasks import deaths
from tests.support.virtual import run


def test_who_is_cancelled_by_what_it_awaits(caplog: pytest.LogCaptureFixture) -> None:
    """A task that ends because a future it awaits was cancelled has ended by a bug, and is logged."""

    async def follows() -> None:
        own = asyncio.create_task(asyncio.sleep(3600))
        asyncio.get_running_loop().call_later(1, own.cancel)
        await own

    async def main() -> None:
        await asyncio.wait([spawn_forever(follows())])

    run(main())
    assert len(deaths(caplog)) == 1
