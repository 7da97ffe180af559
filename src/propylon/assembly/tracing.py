"""Join traces to what is running: make the tracer of a configuration, and let the spans of the one before reach their collector."""

from __future__ import annotations

import asyncio
import gzip
import random
import time
from functools import partial
from typing import TYPE_CHECKING

from propylon.compile.traces import (
    collector_lines,
    collector_url,
    export_rules,
    resource_of,
    tracing_rules,
)
from propylon.config.models.traces import TracesConfig
from propylon.loop.tasks import spawn
from propylon.telemetry.export import Exporter
from propylon.telemetry.families import SPANS
from propylon.telemetry.metrics import Metrics
from propylon.telemetry.tracing import Recorder, Tracer
from propylon.upstream.fetch import Fetched
from propylon.upstream.pools import Pools
from propylon.upstream.site import Site

if TYPE_CHECKING:
    from propylon.upstream.pool import Pool

__all__ = ["Traces"]

_MEDIA_TYPE = b"application/x-protobuf"
# One message at a time; the other connection is for a reload's last ones.
_CONNECTIONS = 2
# Bytes of a collector's answer: a few words.
_LARGEST = 64 * 1024
# Seconds. How long a stop waits for the collector, and how long spans may wait for one that a reload has replaced.
_LAST_WORDS, _REPLACED = 2.0, 30.0


class Traces:
    """The tracer in force, None while nothing is asked of one, and what sends its spans."""

    def __init__(
        self,
        metrics: Metrics,
        pools: Pools,
        loop: asyncio.AbstractEventLoop,
        chance: random.Random,
    ) -> None:
        """Record nothing before a configuration is applied."""
        self.tracer: Tracer | None = None
        self._metrics = metrics
        self._pools = pools
        self._loop = loop
        self._chance = chance
        self._config = TracesConfig()
        self._pool: Pool | None = None

    def apply(self, config: TracesConfig) -> Tracer | None:
        """Return the tracer of a configuration: the same one, as long as that does not change."""
        if config == self._config:
            return self.tracer
        exporter, pool = self._exporter, self._pool
        self._config, self._pool = config, None
        rules = tracing_rules(config)
        recorder = self._recorder(config)
        self.tracer = None
        if recorder is not None or rules.traceresponse or rules.server_timing:
            unkept = partial(self._count, "unkept", 1)
            self.tracer = Tracer(rules, recorder, clock=time.perf_counter, unkept=unkept)
        if exporter is not None and pool is not None:
            spawn(_retire(exporter, pool), self._loop)
        return self.tracer

    async def stop(self) -> None:
        """Send what is left, but not for long."""
        if self._exporter is not None:
            await self._exporter.close(_LAST_WORDS)

    def close(self) -> None:
        """Let go of the connections."""
        if self._exporter is not None:
            self._exporter.abandon()
        if self._pool is not None:
            self._pool.close()

    @property
    def _exporter(self) -> Exporter | None:
        recorder = None if self.tracer is None else self.tracer.recorder
        return None if recorder is None else recorder.exporter

    def _recorder(self, config: TracesConfig) -> Recorder | None:
        if config.endpoint is None or not config.enabled:
            return None
        # An extra, and a tenth of a second to load: only who records needs it. `check` has looked for it.
        from propylon.telemetry.otlp import Encoder, rejected  # noqa: PLC0415

        site = Site(collector_url(config.endpoint), self._pools.fresh, _CONNECTIONS)
        self._pool = site.upstream  # type: ignore[assignment] # what `fresh` returns
        encoder = Encoder(resource_of(config), time.time_ns() - time.perf_counter_ns())
        exporter = Exporter(
            export_rules(config),
            partial(_post, site, config),
            encoder.message,
            rejected,
            count=self._count,
            loop=self._loop,
            chance=self._chance.random,
        )
        return Recorder(encoder, exporter, self._metrics.note_trace)

    def _count(self, result: str, spans: int) -> None:
        self._metrics.row(SPANS, result)[0] += spans


async def _post(site: Site, config: TracesConfig, message: bytes) -> Fetched:
    if config.compression == "gzip":
        # In a thread: of a whole batch it takes milliseconds, and zlib lets the loop go on.
        message = await asyncio.to_thread(gzip.compress, message, 1, mtime=0)
    return await site.post(
        message, _MEDIA_TYPE, collector_lines(config), within=config.timeout, limit=_LARGEST
    )


async def _retire(exporter: Exporter, pool: Pool) -> None:
    """Let the spans of another configuration reach their collector."""
    await exporter.close(_REPLACED)
    pool.close()
