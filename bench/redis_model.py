"""What Redis does with many gateways: a model on paper, and a simulation that checks its arithmetic.

On paper. G gateways carry L requests a second in all, each with one limited caller out of C. A gateway's loop turns T times
a second at most; it sends a call for the requests of a turn, and gathers more while two calls are in flight. Redis runs
the script on one core: a call costs it `CALL` µs and a decision `DECISION` µs (bench/redis_decision.py measures both).

Simulated. Requests come at random (Poisson) to each of a sample of the gateways, callers are drawn by Zipf's law (s = 1), and
Redis is a queue with one server. What is counted: calls and decisions a second, how busy Redis is, how long a decision
waits, and which share of the gateways would lose its patience (50 ms) and count alone.
"""

import argparse
import heapq
import random
import statistics
from dataclasses import dataclass, field

# µs, measured here: a call for one decision took 35 µs of Redis, one for 64 took 5.2 µs for each of them.
CALL, DECISION = 30.0, 5.0
ROUND_TRIP = 200.0  # µs in the network and the kernels, both ways
PATIENCE = 44_000.0  # µs
IN_FLIGHT = 2
KEY = 130  # bytes of a key with its value and expiry, in Redis 7


@dataclass
class Gateway:
    """Calls in flight, and what gathers for the next one: when each request came."""

    in_flight: int = 0
    gathered: list[float] = field(default_factory=list)


@dataclass
class Result:
    """What a second of Redis looks like."""

    calls: float
    decisions: float
    busy: float
    median: float
    p99: float
    impatient: float


def simulate(gateways: int, rate: float, seconds: float, chance: random.Random) -> Result:
    """Run one Redis with these gateways at `rate` requests a second in all."""
    site = [Gateway() for _ in range(gateways)]
    events: list[tuple[float, int, int, list[float]]] = []  # time, kind, gateway, requests
    free_at, busy, calls, waits, late = 0.0, 0.0, 0, [], set()
    end, now = seconds * 1e6, 0.0
    mean = 1e6 / rate

    def send(at: int, time: float) -> None:
        nonlocal free_at, busy, calls
        gateway = site[at]
        asked, gateway.gathered = gateway.gathered[:200], gateway.gathered[200:]
        gateway.in_flight += 1
        calls += 1
        cost = CALL + DECISION * len(asked)
        free_at = max(free_at, time + ROUND_TRIP / 2) + cost
        busy += cost
        heapq.heappush(events, (free_at + ROUND_TRIP / 2, 1, at, asked))

    heapq.heappush(events, (chance.expovariate(1 / mean), 0, chance.randrange(gateways), []))
    while events:
        now, kind, at, asked = heapq.heappop(events)
        gateway = site[at]
        if kind == 0:
            gateway.gathered.append(now)
            if now < end:
                heapq.heappush(
                    events, (now + chance.expovariate(1 / mean), 0, chance.randrange(gateways), [])
                )
        else:
            gateway.in_flight -= 1
            waits += [now - began for began in asked]
            if asked and now - asked[0] > PATIENCE:
                late.add(at)
        if gateway.gathered and gateway.in_flight < IN_FLIGHT:
            send(at, now)
        if free_at > end + 10 * PATIENCE:  # it only grows from here
            break
    waits = waits or [float("inf")]
    cuts = statistics.quantiles(waits, n=100) if len(waits) > 1 else waits * 99
    return Result(
        calls / seconds, len(waits) / seconds, busy / 1e6 / seconds, cuts[49], cuts[98],
        len(late) / gateways,
    )  # fmt: skip


def row(gateways: int, per_gateway: float, shards: int, said: argparse.Namespace) -> str:
    """One line: what one of the shards does. Each gateway sends it that part of its requests."""
    rate = gateways * per_gateway / shards
    # A sample: all that matters to Redis is the rate and how it comes in calls. Both stay if time is stretched.
    seconds = min(said.seconds, said.most / rate)
    found = simulate(gateways, rate, max(seconds, 0.02), random.Random(1))
    broken = "breaks" if found.impatient > 0.01 or found.busy > 1 else ""
    return (
        f"{gateways:8,} {per_gateway:10,g} {shards:6} {rate:13,.0f} {found.calls:11,.0f}"
        f" {found.busy:7.0%} {found.median / 1000:8.2f} {found.p99 / 1000:8.2f}  {broken}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="simulated (1)")
    parser.add_argument("--most", type=float, default=200_000, help="requests of a row (200,000)")
    said = parser.parse_args()
    print("gateways  req/s each shards  decisions/s     calls/s    busy   p50 ms   p99 ms")
    for gateways, per_gateway, shards in (
        (1, 10_000, 1),
        (10, 10_000, 1),
        (100, 100, 1),
        (100, 1_000, 1),
        (1_000, 10, 1),
        (1_000, 100, 1),
        (10_000, 1, 1),
        (10_000, 3, 1),
        (10_000, 10, 1),
        (10_000, 10, 4),
        (10_000, 100, 1),
        (10_000, 100, 32),
        (10_000, 100, 64),
    ):
        print(row(gateways, per_gateway, shards, said), flush=True)
    callers = 1_000_000
    print(
        f"\n{callers:,} callers: {callers * KEY / 1e6:.0f} MB of keys for each limit, until nothing of them is spent"
    )
    print(
        "connections: gateways x workers for each shard; Redis takes 10,000 unless maxclients says more"
    )
    back = 10_000 * 100 / (1e6 / DECISION)
    print(
        f"10,000 gateways that come back at once, 100 keys each: {back:.0f} s of Redis; each takes 1 s at most"
    )


if __name__ == "__main__":
    main()
