"""Put together what one worker shows of all workers, for as long as its loop runs, and what an operator does there."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from propylon.assembly.census import Census
from propylon.assembly.components import Components
from propylon.assembly.outages import SharedOutages
from propylon.assembly.output import Output
from propylon.assembly.watch.changes import ReloadHistory
from propylon.assembly.watch.keeper import Keeper
from propylon.assembly.watch.level import LogLevel
from propylon.assembly.watch.live import Live
from propylon.assembly.watch.state import WATCHED, Sources, State, limits_in_use
from propylon.assembly.watch.tails import Filter, Tails
from propylon.assembly.watch.trust import Trust
from propylon.config.models.schema import GatewayConfig
from propylon.control import circuits, limits
from propylon.edge.state import EdgeState
from propylon.proxy.exchange import Observer
from propylon.proxy.limit.stage import Limit
from propylon.proxy.pipeline import Pipeline
from propylon.proxy.route import Route
from propylon.stores.shared import Facts
from propylon.telemetry.history import Point, series
from propylon.telemetry.metrics import Metrics
from propylon.telemetry.recent import Recent
from propylon.version import __version__

if TYPE_CHECKING:
    from propylon.compile.authentication import Authentication
    from propylon.stores.shelf import FolderShelf, MemoryShelf

__all__ = ["Shown", "Watching", "watch"]

_LASTS = 60.0  # seconds of a tail, as of the other stream
_QUIET = 5.0  # seconds after which an empty line tells the viewer that the stream lives
_COUNTED = 50  # instances in one part of the census: a message has a largest size


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown; the functions return what is in force when they are called."""

    metrics: Metrics
    facts: Facts
    shelf: FolderShelf | MemoryShelf
    census: Census
    outages: SharedOutages
    config: Callable[[], GatewayConfig]
    authentication: Callable[[], Authentication | None]
    routes: Callable[[], Iterable[Route]]
    pipelines: Callable[[], Iterable[Pipeline]]
    set_level: Callable[[str], None]


class Runs(Protocol):
    """The data plane of this worker."""

    census: Census
    output: Output
    edges: dict[str, EdgeState]

    @property
    def config(self) -> GatewayConfig:
        """The configuration in force."""

    @property
    def authentication(self) -> Authentication | None:
        """What verifies tokens now."""

    @property
    def routes(self) -> Iterator[Route]:
        """All routes in force."""


def watch(
    running: Runs, components: Components, outages: SharedOutages, loop: asyncio.AbstractEventLoop
) -> Watching:
    """Return what shows a worker, and tells all others what an operator says; after `shared.start`."""
    shown = Shown(
        components.metrics,
        components.shared.facts,
        components.shared.shelf(),
        running.census,
        outages,
        lambda: running.config,
        lambda: running.authentication,
        lambda: running.routes,
        lambda: (edge.pipeline for edge in running.edges.values()),
        running.output.set_level,
    )
    return Watching(shown, loop)


class Watching:
    """All of it, in one worker."""

    def __init__(self, shown: Shown, loop: asyncio.AbstractEventLoop) -> None:
        """Remember from now on what goes wrong; `start` writes it down."""
        self._shown = shown
        self._began = time.time()
        self.reloads = ReloadHistory(time.time)
        recent = Recent(uuid.uuid4().hex[:8])
        shown.metrics.on_trouble = recent.note
        self._keeper = Keeper(shown.shelf, shown.metrics, recent, self.reloads)
        self._tails = Tails(shown.facts, loop, self._attach)
        self._level = LogLevel(shown.facts, shown.set_level)
        self._state = State(
            Sources(
                shown.metrics,
                shown.shelf,
                shown.census.gather,
                circuits.merged,
                self._limits,
                shown.routes,
                self._figures,
                Trust(shown.config, shown.authentication),
            )
        )
        self._live = Live(self._gather, lambda: uuid.uuid4().hex[:12], self._tails.count_instances)
        shown.census.offer(WATCHED, self._counted)

    def start(self) -> None:
        """Write the history, and hear the other workers. Needs a running loop."""
        self._tails.join()
        self._level.join()
        self._keeper.start()

    def close(self) -> None:
        """Show nothing any more."""
        self._shown.metrics.on_trouble = lambda _: None
        self._live.close()
        self._tails.close()
        self._keeper.close()

    def end_streams(self) -> None:
        """End all streams: a stop must not wait for those who look."""
        self._live.close()
        self._tails.end()

    def reloaded(self, before: GatewayConfig, after: GatewayConfig) -> None:
        """Remember a reload; it has set the level of the log, too."""
        self.reloads.succeeded(before, after)
        self._level.forget()

    # What is read

    async def overview(self) -> bytes:
        """Return everything now, as one line of JSON."""
        return await self._live.overview()

    def live(self, generation: str, seq: int) -> AsyncIterator[bytes]:
        """Return the lines for a viewer that has got all until `seq` of a generation. Raises ServiceUnavailable."""
        return self._live.lines(generation, seq)

    async def history(self, route: str, service: str) -> list[Point]:
        """Return the buckets of the last hour, of a route or of a service."""
        return await asyncio.to_thread(
            series, self._shown.shelf, time.time(), route=route, service=service
        )

    async def tail(self, said: Mapping[str, Any]) -> AsyncIterator[bytes]:
        """Yield requests as they end, in all workers, as lines of JSON; an empty object after a silence."""
        name, tail = self._tails.open(Filter(**said))
        ends = time.monotonic() + _LASTS
        try:
            yield b"{}\n"
            while time.monotonic() < ends and not tail.ended:
                try:
                    async with asyncio.timeout(_QUIET):
                        await tail.came.wait()
                except TimeoutError:
                    pass  # silence is told, too
                records, skipped = tail.fetch()
                line: dict[str, Any] = {"records": records, "skipped": skipped} if records else {}
                yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        finally:
            self._tails.shut(name)

    # What an operator does

    @property
    def log_level(self) -> str:
        """The level of the log in force."""
        return self._level.said or self._shown.config().log.level

    def set_log_level(self, level: str) -> None:
        """Set the level of the log in all workers, until the next reload."""
        self._level.say(level)

    def force_circuit(self, service: str, why: str) -> None:
        """Open a breaker in all workers, until it is reset. Raises NotFound."""
        self._shown.outages.force(service, why)

    def reset_circuit(self, service: str) -> None:
        """Close a breaker in all workers. Raises NotFound."""
        self._shown.outages.reset(service)

    def drain(self, service: str, instance_id: str, *, drained: bool) -> None:
        """Send no new requests to an instance, or send them again. Raises NotFound."""
        self._shown.outages.drain(service, instance_id, drained=drained)

    # Parts

    async def _gather(self) -> dict[str, dict[str, Any]]:
        self._keeper.flush()
        return await self._state.sections()

    def _attach(self, observer: Observer | None) -> None:
        more = () if observer is None else (observer,)
        for pipeline in self._shown.pipelines():
            pipeline.watch_with(*more)

    def _counted(self) -> list[dict[str, Any]]:
        counts = [[*key, *numbers] for key, numbers in self._tails.instances.items()]
        return [
            {"instances": counts[begin : begin + _COUNTED]}
            for begin in range(0, len(counts), _COUNTED)
        ]

    def _limits(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        in_use: Iterable[tuple[str, Limit]] = limits.limits_of(self._shown.routes())
        hit = {part["limit"] for part in parts if part["refused"] or part["shadowed"]}
        return limits.gathered(limits_in_use(in_use, hit), parts)

    def _figures(self) -> dict[str, Any]:
        config = self._shown.config()
        return {
            "version": __version__,
            "began": self._began,
            "log_level": self.log_level,
            "prefix": config.prefix,
            "verifies": config.auth.verifies,
        }
