"""Wait for what another process or thread does: looked at again and again, never slept for."""

import time
from collections.abc import Callable


def soon(true: Callable[[], object], within: float = 20.0) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def wait(true: Callable[[], object], within: float = 20.0) -> None:
    """Wait until it is true."""
    assert soon(true, within), "it did not come true"
