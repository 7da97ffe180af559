"""Look at times that a document names: the time itself alone, and much more of it on a busy machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# For a case that takes `allowance`. `make timed` runs the exact half, with nothing else on the machine.
timed = pytest.mark.parametrize(
    "allowance",
    [pytest.param(10, id="busy"), pytest.param(1, id="exact", marks=pytest.mark.timed)],
)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took <= seconds, f"{took:.3f} s instead of {seconds:.3f} s"
