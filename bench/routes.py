"""Matches in a table of 10 routes and in one of 10,000, in turns: the ratio of their costs should be 1."""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from propylon.proxy.authenticate import anonymous
from propylon.proxy.authorize import anybody
from propylon.proxy.match import Table
from propylon.proxy.route import Pattern, Route
from propylon.services.service import Service
from propylon.upstream.ports import Timeouts
from propylon.wire.message import Request
from propylon.wire.request import parse_request

SMALL, LARGE = 10, 10_000
# As many as a processor's cache can hold beside the table: what differs is then the table alone.
REQUESTS = 512


@dataclass(frozen=True)
class Load:
    """A table, and requests that it has routes for."""

    table: Table
    requests: Sequence[Request]

    def nanoseconds(self, turns: int) -> float:
        """What one match costs on average."""
        # `find`, not `match`: a path that was asked for before is remembered, and costs nothing.
        find, requests = self.table.find, self.requests
        started = time.perf_counter_ns()
        for _ in range(turns):
            for request in requests:
                find(request.authority, request.path)
        return (time.perf_counter_ns() - started) / (turns * len(requests))


def build(count: int, asked: int) -> Load:
    """Routes of three shapes, so many of them; requests to `asked` different ones."""
    service = Service("up", (), lambda instances: instances[0])
    routes = [
        Route(
            name=f"route-{number}",
            pattern=pattern(number),
            service=service,
            authenticate=anonymous,
            authorize=anybody,
            timeouts=Timeouts(),
            max_body=1 << 20,
        )
        for number in range(count)
    ]
    chosen = random.Random(7).sample(range(count), min(asked, count))
    requests = [request(chosen[i % len(chosen)]) for i in range(REQUESTS)]
    return Load(checked(Table(routes), requests), requests)


def pattern(number: int) -> Pattern:
    name = b"service-%05d" % number
    shapes: tuple[tuple[bytes | None, ...], ...] = (
        (b"api", b"v1", name),
        (b"api", b"v1", name, None, b"lines"),
        (b"api", b"v2", name),
    )
    return Pattern(shapes[number % 3], exact=number % 3 == 2)


def request(number: int) -> Request:
    rest = (b"/1042/lines", b"/1042/lines", b"")[number % 3]
    version = (b"v1", b"v1", b"v2")[number % 3]
    path = b"/api/%s/service-%05d%s" % (version, number, rest)
    return parse_request(b"GET %b?expand=lines HTTP/1.1\r\nHost: shop.example.com\r\n\r\n" % path)


def checked(table: Table, requests: Sequence[Request]) -> Table:
    """The table, when it finds the right route for every request."""
    for each in requests:
        number = int(each.path.split(b"/")[3].removeprefix(b"service-"))
        assert table.match(each).name == f"route-{number}"
    return table


def compare(small: Load, large: Load, options: argparse.Namespace) -> tuple[float, float, float]:
    """The medians of both, and of their ratio: each round measures both, so that both suffer alike."""
    turns = options.turns
    pairs = [(small.nanoseconds(turns), large.nanoseconds(turns)) for _ in range(options.rounds)]
    ratios = [after / before for before, after in pairs]
    return median(p[0] for p in pairs), median(p[1] for p in pairs), median(ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--turns", type=int, default=40, help=f"times {REQUESTS} in each round")
    options = parser.parse_args()
    print(f"{'requests go to':<32}{SMALL:>10} routes{LARGE:>10} routes     ratio")
    for asked, words in (
        (SMALL, f"{SMALL} of the routes"),
        (REQUESTS, f"up to {REQUESTS} of the routes"),
    ):
        small, large, ratio = compare(build(SMALL, asked), build(LARGE, asked), options)
        print(f"{words:<32}{small:>14,.0f} ns{large:>14,.0f} ns{ratio:>10.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
