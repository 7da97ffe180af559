"""Which routes have a stage of the cache, and what a reload keeps."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from propylon.compile.cache import CacheCompiler
from propylon.config.models.schema import GatewayConfig
from propylon.proxy.cache.invalidation import Invalidation
from propylon.proxy.cache.stage import CacheStage
from propylon.stores.answers.memory import MemoryAnswers
from tests.proxy.doubles import STILL


class Tallies:
    """Counts nothing that a case looks at."""

    def cache(self, route: str) -> Counter[int]:
        """A row."""
        return Counter()


@pytest.fixture
def caches() -> CacheCompiler[Any]:
    """What makes stages."""
    loop: Any = asyncio.new_event_loop()
    loop.close()
    store = MemoryAnswers(1_000_000)
    return CacheCompiler(store, Tallies(), STILL, loop, random.getrandbits)


def config(*routes: dict[str, Any], url: str = "http://a:80", **service: Any) -> GatewayConfig:
    """A configuration with these routes."""
    return GatewayConfig.model_validate(
        {
            "services": {"a": {"url": url, **service}},
            "routes": [{"service": "a", **route} for route in routes],
        }
    )


def forwards(caches: CacheCompiler[Any], written: GatewayConfig) -> list[Any]:
    """The forward stage of each route."""
    return [caches.forward_of(written, route, frozenset()) for route in written.routes]


def test_routes_pay_for_what_they_use(caches: CacheCompiler[Any]) -> None:
    """A cache, what may change its answers, and all others."""
    made = forwards(
        caches,
        config(
            {"path": "/a", "cache": {}, "methods": ["GET"]},
            {"path": "/a", "methods": ["POST"]},
            {"path": "/a/b"},
            {"path": "/{x}/c"},
            {"path": "/a/read", "methods": ["GET"]},
            {"path": "/b"},
            {"path": "/c", "coalesce": True},
        ),
    )
    kinds = [type(one) for one in made]
    assert kinds[0] is kinds[6] is CacheStage
    assert kinds[1] is kinds[2] is kinds[3] is Invalidation
    assert made[4] is made[5] is STILL


def test_without_a_cache_there_is_nothing(caches: CacheCompiler[Any]) -> None:
    """No route is touched."""
    assert forwards(caches, config({"path": "/a"}, {"path": "/a/b"})) == [STILL, STILL]


@pytest.mark.parametrize(
    ("route", "service", "kept"),
    [
        ({}, {}, True),
        ({"timeouts": {"total": "9s"}}, {}, True),
        ({"rate_limit": {"rate": "9/s"}}, {}, True),
        ({}, {"retry": {"attempts": 2}}, True),
        ({"cache": {"ttl": "9s"}}, {}, False),
        ({"strip_prefix": True}, {}, False),
        ({"headers": {"request": {"set": {"A": "b"}}}}, {}, False),
        ({}, {"url": "http://b:80"}, False),
        ({}, {"forward_token": False}, False),
    ],
)
def test_a_reload_keeps_what_stays_valid(
    caches: CacheCompiler[Any],
    route: dict[str, Any],
    service: dict[str, Any],
    kept: bool,
) -> None:
    """Answers are found again if nothing that they depend on has changed, and only then."""
    written = {"path": "/a", "cache": {"ttl": "5s"}}
    [before] = forwards(caches, config(written))
    [after] = forwards(caches, config({**written, **route}, **service))
    assert (before.rules.place == after.rules.place) is kept
    if not (route or service):
        assert before is after
