"""A loop on which waiting takes no time: when nobody can go on, its clock jumps to what is due next."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Loop", "run"]

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """A selector that lets time pass instead of waiting for it."""

    loop: "Loop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; else the clock moves on by as long as would have been waited."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and nothing is due"
            self.loop.now += max(0.0, timeout)
        return ready


class Loop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which starts at `now` seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """The time now; it stands still as long as anybody has something to do."""
        return self.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run under such a loop; nothing may be left that fell over unnoticed."""
    unnoticed: list[str] = []
    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: unnoticed.append(str(context)))
        done = runner.run(main)
    assert unnoticed == []
    return done
