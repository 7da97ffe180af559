"""Look at times that a document names: three times as long is right on a busy machine, the time itself alone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# For a case that takes `allowance`. `make timed` runs the exact half, with nothing else on the machine.
timed = pytest.mark.parametrize(
    "allowance",
    [pytest.param(3, id="thrice"), pytest.param(1, id="exact", marks=pytest.mark.timed)],
)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took <= seconds, f"{took:.3f} s instead of {seconds:.3f} s"
