"""Closing while the client is still sending."""

import asyncio

from propylon.edge.linger import LingeringClose
from tests.support.virtual import run

MIB = 1024 * 1024


class HalfClosable(asyncio.Transport):
    """A transport that notes how it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def write_eof(self) -> None:
        """Note it."""
        self.calls.append("write_eof")

    def close(self) -> None:
        """Note it."""
        self.calls.append("close")


def test_a_client_that_stops_sending() -> None:
    """The gateway half-closes at once, and closes two seconds later."""

    async def main() -> None:
        transport = HalfClosable()
        lingering = LingeringClose(transport, asyncio.get_running_loop())
        lingering.discard(b"x" * 1000)
        assert transport.calls == ["write_eof"]
        await asyncio.sleep(1.9)
        assert transport.calls == ["write_eof"]
        await asyncio.sleep(0.2)
        assert transport.calls == ["write_eof", "close"]

    run(main())


def test_a_client_that_goes_on_sending() -> None:
    """The gateway discards one MiB, and closes then."""

    async def main() -> None:
        transport = HalfClosable()
        lingering = LingeringClose(transport, asyncio.get_running_loop())
        lingering.discard(b"x" * (MIB - 1))
        assert transport.calls == ["write_eof"]
        lingering.discard(b"x")
        assert transport.calls == ["write_eof", "close"]

    run(main())
