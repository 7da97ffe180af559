"""Make what guards routes besides tokens: the users of files (`basic_auth`), and services that decide (`forward_auth`)."""

from __future__ import annotations

import asyncio
import secrets
import time

from propylon.compile.basic_auth import BasicCompiler
from propylon.compile.forward_auth import AskCompiler
from propylon.proxy.authenticate.basic import Means
from propylon.proxy.authenticate.guesses import Guesses
from propylon.telemetry.events import Events
from propylon.telemetry.metrics import Metrics
from propylon.upstream.pools import Pools

__all__ = ["open_asks", "open_basic"]

_KEY = 32  # bytes
# A page with its pictures is one attempt, so this many users may come at once when a worker has just started.
_WAITING = 256


def open_basic() -> BasicCompiler:
    """Return what makes the stages of routes with `basic_auth`. Threads start with the first password."""
    return BasicCompiler(_means)


def _means() -> Means:
    # Two libraries that hash: only a gateway with such a route loads them.
    from propylon.stores.passwords import Passwords  # noqa: PLC0415

    return Means(Passwords(waiting=_WAITING), Guesses(time.monotonic), secrets.token_bytes(_KEY))


def open_asks(pools: Pools, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> AskCompiler:
    """Return what makes the stages of routes with `forward_auth`; a breaker is logged and counted as those of services are."""
    return AskCompiler(pools.connect, metrics.questions, loop.time, Events(metrics).circuit)
