"""What a decision in Redis costs: µs of this process' loop, and µs of Redis, by how many are decided in one turn.

A real redis-server (or valkey-server) on PATH, one gateway's store, callers by turns. Loop time is CPU time of this
process; Redis' own is its used_cpu_user and used_cpu_sys. Best of some rounds, since others may use the machine.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvloop
from redis_server import Server, running

from propylon.proxy.limit.rule import MICROSECONDS, Rule, Spend
from propylon.stores.limits.memory import MemoryLimits
from propylon.stores.redis.limits import RedisLimits
from propylon.stores.redis.target import Address, Target

DECISIONS = 40_000


@dataclass
class Cost:
    """Of one decision, in µs."""

    loop: float
    redis: float


def rules(limits: int, *, sliding: bool) -> list[Rule]:
    return [
        Rule(f"route:{at}", "default", 1000, MICROSECONDS * 60, 1000, sliding=sliding)
        for at in range(limits)
    ]


def asker(store: RedisLimits, callers: int, chosen: list[Rule]) -> Callable[[int], object]:
    """What a gateway does for a request of a caller: with one limit, it takes the short way."""
    take = store.taker(chosen[0], 1) if len(chosen) == 1 else None
    if take is not None:
        keys = [f"caller-{at}" for at in range(callers)]
        return lambda at: take(keys[at])
    requests = [[Spend(rule, f"caller-{at}") for rule in chosen] for at in range(callers)]
    return lambda at: store.decide(requests[at])


async def measure(server: Server, batch: int, callers: int, chosen: list[Rule]) -> Cost:
    target = Target("server", (Address("127.0.0.1", server.port),), timeout=5.0)
    local = MemoryLimits(time.monotonic_ns)
    store = RedisLimits(target, local, loop=asyncio.get_running_loop(), chance=lambda: 0.5)
    store.start()
    await store.tried()
    best = Cost(1e9, 1e9)
    ask = asker(store, callers, chosen)
    for _ in range(4):
        began, redis_began = time.process_time(), server.cpu()
        for turn in range(DECISIONS // batch):
            asked = [ask((turn * batch + at) % callers) for at in range(batch)]
            for one in asked:
                if isinstance(one, Awaitable):
                    await one
        loop_time, redis_time = time.process_time() - began, server.cpu() - redis_began
        best.loop = min(best.loop, loop_time / DECISIONS * 1e6)
        best.redis = min(best.redis, redis_time / DECISIONS * 1e6)
    store.close()
    await asyncio.sleep(0.01)
    return best


async def main(program: str | None) -> None:
    print("one limit of a caller, in a bucket (GCRA):")
    print("  decisions in a turn   µs of the loop   µs of Redis   decisions/s of one Redis")
    with running(program) as server:
        for batch in (1, 4, 16, 64, 200, 1000):
            cost = await measure(server, batch, 10_000, rules(1, sliding=False))
            print(
                f"  {batch:19}   {cost.loop:14.1f}   {cost.redis:11.1f}   {1e6 / cost.redis:24,.0f}"
            )
        print("64 in a turn:")
        for what, callers, chosen in (
            ("all of one caller", 1, rules(1, sliding=False)),
            ("three limits of a caller", 10_000, rules(3, sliding=False)),
            ("a sliding window", 10_000, rules(1, sliding=True)),
        ):
            cost = await measure(server, 64, callers, chosen)
            print(
                f"  {what:25}   {cost.loop:8.1f}   {cost.redis:11.1f}   {1e6 / cost.redis:24,.0f}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", help="the program (redis-server, else valkey-server)")
    uvloop.run(main(parser.parse_args().server))
