"""Run scenarios side by side: those that mostly wait for real time cost no more than the longest of them."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

K = TypeVar("K")


@contextmanager
def side_by_side(scenarios: Mapping[K, Callable[[], None]]) -> Iterator[dict[K, Future[None]]]:
    """Begin all of them, each in a thread of its own; a case then asks for the result of one."""
    with ThreadPoolExecutor(len(scenarios)) as pool:
        yield {key: pool.submit(scenario) for key, scenario in scenarios.items()}
