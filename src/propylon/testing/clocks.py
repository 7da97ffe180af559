"""The clock of a test, and how all of the gateway reads it.

Facts. The gateway takes its clocks as arguments, but whoever puts it together names the system's: `time.time` in the
assembly, and as defaults of parameters. A second way for the sake of tests would be a call more on each request.

Strategy. For the length of a test, the modules of the package see another `time`, and defaults that are a clock of the
system are exchanged. Nothing outside the package is touched: pytest, the test and other libraries keep their time.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import FunctionType, ModuleType
from typing import Any
from unittest import mock

import propylon
from propylon.testing.loop import VirtualLoop

__all__ = ["Clock", "seen_by_the_gateway"]

# What runs a gateway as a process, and what is not part of one.
_NOT_OURS = ("propylon.testing", "propylon.cli", "propylon.commands", "propylon.process")
_LEFT_OUT = (*_NOT_OURS, "propylon.main", "propylon.__main__")


class Clock:
    """All clocks of the gateway under test: they stand still until the test, or a request that waits, moves them."""

    def __init__(self, loop: VirtualLoop) -> None:
        """Begin at the time of day that it is."""
        self._loop = loop
        self._behind = time.time() - loop.now

    def tick(self, seconds: float) -> None:
        """Let so many seconds pass; what falls due on the way is done in its order. Raises ValueError if negative."""
        if seconds < 0:
            msg = "a clock does not run backwards: seconds must not be negative"
            raise ValueError(msg)
        self._loop.advance(seconds)

    def time(self) -> float:
        """Return the time of day, in seconds since 1970."""
        return self._behind + self._loop.now

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return self._loop.now


class _Time:
    """What the modules of the gateway see as the module `time`."""

    def __init__(self, clock: Clock) -> None:
        self.time = clock.time
        self.monotonic = self.perf_counter = clock.monotonic
        self.time_ns = _in_ns(clock.time)
        self.monotonic_ns = self.perf_counter_ns = _in_ns(clock.monotonic)
        self.clock_gettime = lambda _: clock.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def _in_ns(clock: Callable[[], float]) -> Callable[[], int]:
    return lambda: round(clock() * 1e9)


@cache
def _modules() -> tuple[ModuleType, ...]:
    """Return all modules of a gateway; those that it imports late are imported now, or they would see the real time."""
    for found in pkgutil.walk_packages(propylon.__path__, "propylon."):
        if not found.name.startswith(_LEFT_OUT):
            try:
                importlib.import_module(found.name)
            except ImportError:  # an extra that is not installed: a gateway cannot have it either
                continue
    return tuple(
        module
        for name, module in sys.modules.items()
        if name.startswith("propylon.") and not name.startswith(_NOT_OURS)
    )


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for value in vars(module).values():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield value
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for member in vars(value).values():
                inner = getattr(member, "__func__", member)
                if isinstance(inner, FunctionType):
                    yield inner


def _static_clocks(module: ModuleType) -> Iterator[tuple[type, str, Callable[[], float]]]:
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            for name, member in vars(value).items():
                if isinstance(member, staticmethod) and not isinstance(
                    member.__func__, FunctionType
                ):
                    yield value, name, member.__func__


@contextmanager
def seen_by_the_gateway(clock: Clock) -> Iterator[None]:
    """Have the package read this clock; a gateway must be made inside."""
    ours = _Time(clock)
    names = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
    # By identity: a default may be of any type, and not all are hashable.
    instead = {id(getattr(time, name)): getattr(ours, name) for name in names}
    with ExitStack() as stack:
        for module in _modules():
            if vars(module).get("time") is time:
                stack.enter_context(mock.patch.object(module, "time", ours))
            for function in _functions(module):
                _exchange_defaults(stack, function, instead)
            for owner, name, real in [*_static_clocks(module)]:
                if id(real) in instead:
                    exchanged = staticmethod(instead[id(real)])
                    stack.enter_context(mock.patch.object(owner, name, exchanged))
        yield


def _exchange_defaults(stack: ExitStack, function: FunctionType, instead: dict[int, Any]) -> None:
    given, named = function.__defaults__, function.__kwdefaults__
    if given and any(id(value) in instead for value in given):
        stack.callback(setattr, function, "__defaults__", given)
        function.__defaults__ = tuple(instead.get(id(value), value) for value in given)
    if named and any(id(value) in instead for value in named.values()):
        stack.callback(setattr, function, "__kwdefaults__", named)
        function.__kwdefaults__ = {
            name: instead.get(id(value), value) for name, value in named.items()
        }
