"""A reload keeps what it needs of the connections to others, and nothing else."""

import asyncio

import pytest

from propylon.compile.authentication import compile_authentication
from propylon.config.models.auth import AuthConfig
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import Ticker
from propylon.upstream.pools import Pools
from tests.assembly.test_reload_keys import URL, Written
from tests.proxy.authenticate.stand_in import Taken, Wall


def versions(number: int) -> list[Written]:
    """One configuration after the other."""
    return [
        {"introspection": {"url": "https://i.test/", "cache": f"{number}s"}},
        {"introspection": {"url": f"http://i{number}.test/"}},
        {"jwt": {"jwks_url": URL}, "introspection": {"url": f"http://i{number}.test/"}},
        {"jwt": {"jwks_url": f"{URL}?v={number}"}, "introspection": {"url": "https://i.test/"}},
    ]


@pytest.mark.parametrize("kind", range(4))
def test_connections_do_not_pile_up(kind: int) -> None:
    """One pool for each of those who are asked now."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pools = Pools(loop, Ticker(loop, 1.0), Outbox(loop))
        before = None
        for number in range(1, 6):
            config = AuthConfig.model_validate(versions(number)[kind])
            before = compile_authentication(config, pools.connect, Taken(), Wall(), before=before)
            assert before is not None
            pools.keep(before.upstreams)
        assert len(pools._shared) == len(versions(1)[kind])

    asyncio.run(main())
