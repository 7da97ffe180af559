"""End a worker whose test hangs, and say where it hangs.

pytest does the same with `faulthandler_timeout`: it starts and ends a thread for each of fifteen thousand
tests, and waits for the thread to have ended. This alarm is set anew now and then.
"""

import faulthandler
import os
import time
from collections.abc import Generator

import pytest

HANGS = 300.0  # seconds: no test takes a tenth of it
_ANEW = 15.0  # seconds after which the next test sets the alarm anew

_STDERR = pytest.StashKey[int]()
_SET = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the standard error of the run: a test has another one."""
    config.stash[_STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close it, and set no alarm any more."""
    faulthandler.cancel_dump_traceback_later()
    os.close(config.stash[_STDERR])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """See to it that the alarm is at least `HANGS` less `_ANEW` seconds away."""
    stash, now = item.config.stash, time.monotonic()
    if now > stash.get(_SET, 0.0) + _ANEW:
        stash[_SET] = now
        faulthandler.dump_traceback_later(HANGS, file=stash[_STDERR], exit=True)
    return (yield)
