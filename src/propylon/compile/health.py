"""Compile the health checks of a service."""

from __future__ import annotations

import re

from propylon.config.models.health import HealthConfig
from propylon.services.instance import HealthRules
from propylon.wire.headers import render

__all__ = ["compile_health"]

_USER_AGENT = (b"User-Agent", b"propylon-health")


def compile_health(written: HealthConfig | None) -> HealthRules | None:
    """Return the rules by which instances are probed; None: probes do not decide who is asked."""
    if written is None:
        return None
    return HealthRules(
        healthy_after=written.healthy_after,
        unhealthy_after=written.unhealthy_after,
        path=written.path.encode("ascii"),
        interval=written.interval,
        timeout=written.timeout,
        method=written.method.encode("ascii"),
        host=(written.host or "").encode("ascii"),
        headers=_block(written.headers),
        statuses=written.statuses,
        body=None if written.body is None else re.compile(written.body.encode()),
        tcp=written.type == "tcp",
    )


def _block(headers: dict[str, str]) -> bytes:
    lines = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    named = any(name.lower() == b"user-agent" for name, _ in lines)
    return render(lines if named else [_USER_AGENT, *lines])
