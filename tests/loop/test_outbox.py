"""The outbox: writes wait for the end of a busy turn, and a write that is alone does not."""

import asyncio
from typing import cast

from propylon.loop.outbox import Outbox


class Written:
    """A transport that notes what is written, in the order of all."""

    def __init__(self, seen: list[bytes]) -> None:
        """Note into `seen`."""
        self.seen = seen
        self.closing = False

    def write(self, data: bytes) -> None:
        """Note."""
        self.seen.append(data)

    def is_closing(self) -> bool:
        """As it was set."""
        return self.closing


async def turn(outbox: Outbox, *writes: tuple[Written, bytes]) -> int:
    """Write in one turn of the loop, and let it end; tell how many were made before its end."""
    for transport, data in writes:
        outbox.write(cast("asyncio.Transport", transport), data)
    seen = writes[0][0].seen
    before = len(seen)
    await asyncio.sleep(0)
    return before


def test_a_write_that_is_alone_is_made_at_once() -> None:
    """After some turns with one write each; a turn with more has them held back again."""

    async def main() -> None:
        seen: list[bytes] = []
        first, second = Written(seen), Written(seen)
        outbox = Outbox(asyncio.get_running_loop())
        for count in range(16):
            assert await turn(outbox, (first, b"lone")) == count
        assert await turn(outbox, (first, b"at once")) == 17
        # Only the first of a turn goes ahead: the loop is busy again.
        assert await turn(outbox, (first, b"a"), (second, b"b"), (first, b"c")) == 18
        assert seen[-3:] == [b"a", b"b", b"c"]
        assert await turn(outbox, (first, b"d")) == 20

    asyncio.run(main())


def test_nothing_is_written_to_what_closes() -> None:
    """Neither at the end of the turn nor at once."""

    async def main() -> None:
        seen: list[bytes] = []
        transport = Written(seen)
        outbox = Outbox(asyncio.get_running_loop())
        for _ in range(16):
            await turn(outbox, (transport, b"x"))
        transport.closing = True
        await turn(outbox, (transport, b"at once"))
        await turn(outbox, (transport, b"y"), (transport, b"held back"))
        assert seen == [b"x"] * 16

    asyncio.run(main())


def test_an_early_flush_keeps_the_order() -> None:
    """Whoever closes flushes first; what is written afterwards comes behind it."""

    async def main() -> None:
        seen: list[bytes] = []
        transport = Written(seen)
        outbox = Outbox(asyncio.get_running_loop())
        for _ in range(40):
            outbox.write(cast("asyncio.Transport", transport), b"1")
            outbox.flush()
            outbox.write(cast("asyncio.Transport", transport), b"2")
            outbox.write(cast("asyncio.Transport", transport), b"3")
            await asyncio.sleep(0)
        assert seen == [b"1", b"2", b"3"] * 40

    asyncio.run(main())
