"""Compile the section `traces` into what is recorded, and what a message to the collector says."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from propylon.config.models.traces import TracesConfig
from propylon.telemetry.export import ExportRules
from propylon.telemetry.sampling import Keep, Sampling
from propylon.telemetry.tracing import TracingRules
from propylon.version import __version__
from propylon.wire.headers import render

__all__ = ["collector_lines", "collector_url", "export_rules", "resource_of", "tracing_rules"]

_PATH = "/v1/traces"


def tracing_rules(config: TracesConfig) -> TracingRules:
    """Return what is recorded, and what answers say."""
    keep = config.keep
    return TracingRules(
        Sampling(config.sampling.ratio, config.sampling.parent),
        Keep(keep.errors, keep.slower_than, keep.most.amount, keep.most.seconds),
        frozenset(path.encode("ascii") for path in config.skip),
        config.traceresponse,
        config.server_timing,
    )


def export_rules(config: TracesConfig) -> ExportRules:
    """Return how spans wait, and how long they are sent again."""
    return ExportRules(config.queue, config.batch, config.interval, config.retry_for)


def collector_url(endpoint: str) -> str:
    """Return where messages go: an endpoint without a path means /v1/traces there."""
    parts = urlsplit(endpoint)
    return endpoint if parts.path else parts._replace(path=_PATH).geturl()


def collector_lines(config: TracesConfig) -> bytes:
    """Return the block of the headers for the collector."""
    lines = render(
        (name.encode("ascii"), value.get_secret_value().encode("latin-1"))
        for name, value in config.headers.items()
    )
    return lines + (b"\r\nContent-Encoding: gzip" if config.compression == "gzip" else b"")


def resource_of(config: TracesConfig) -> dict[str, str]:
    """Return what all spans of this process are of."""
    return {
        "service.version": __version__,
        "host.name": socket.gethostname(),
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        **config.resource,
        "service.name": config.service_name,
    }
