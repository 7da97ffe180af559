"""Checks of instances as Kong and APISIX write them: probes, and what is learned from traffic."""

from __future__ import annotations

from dataclasses import dataclass

from propylon.commands.imports.parts import Part
from propylon.commands.imports.tree import Item

__all__ = ["Defaults", "read_checks"]

_FAILURES = ("http_failures", "tcp_failures", "timeouts")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What counts where nothing is written; failures are those of HTTP, of TCP, and timeouts."""

    interval: float = 0
    successes: int = 0
    active: tuple[int, int, int] = (0, 0, 0)
    passive: tuple[int, int, int] = (0, 0, 0)


def read_checks(checks: Item, part: Part, defaults: Defaults) -> None:
    """Translate the mapping with `active` and `passive`."""
    if not checks:
        return
    if checks.get("active"):
        _active(checks.get("active"), part, defaults)
    _passive(checks.get("passive"), part, defaults)
    if checks.get("threshold").number():
        part.lost(
            checks.get("threshold").at,
            "propylon has no share of healthy weight below which the whole service is off",
        )


def _active(active: Item, part: Part, defaults: Defaults) -> None:
    good, bad = active.get("healthy"), active.get("unhealthy")
    intervals = [
        one
        for one in (side.get("interval").number(defaults.interval) for side in (good, bad))
        if one
    ]
    kind = active.get("type").text("http")
    if not intervals:
        part.same(active.at, "no probes: their interval is 0")
        active.ignore(*(key for key, _ in active.items()))
        return
    part.put("health.type", "tcp" if kind == "tcp" else "http")
    if kind != "tcp":
        part.put("health.path", active.get("http_path").text("/"))
        part.put(
            "health.status",
            [int(one.number()) for one in good.get("http_statuses").each()] or [200, 302],
        )
        if active.get("headers"):
            part.put(
                "health.headers",
                {
                    name: values.each()[0].text()
                    for name, values in active.get("headers").items()
                    if values.each()
                },
            )
    part.put("health.interval", f"{min(intervals):g}s")
    part.put("health.timeout", f"{active.get('timeout').number(1):g}s")
    part.put("health.healthy_after", max(1, int(good.get("successes").number(defaults.successes))))
    failures = _numbers(bad, defaults.active)
    part.put("health.unhealthy_after", min([one for one in failures if one] or [1]))
    bad.get("http_statuses")
    active.ignore("concurrency", "https_verify_certificate", "https_sni", "req_headers")
    if active.get("host"):
        part.put("health.host", active.get("host").text())
    if active.get("port").number():
        part.put("health.port", int(active.get("port").number()))
    part.set(
        "health.interval",
        f"{min(intervals):g}s",
        active.at,
        _difference(active, intervals, failures),
    )


def _difference(active: Item, intervals: list[float], failures: list[int]) -> str:
    """Return what is not the same; empty if nothing is."""
    said = []
    if len(set(intervals)) > 1:
        said.append("one interval for all instances, the shorter one of the two")
    if len({one for one in failures if one}) > 1:
        said.append("all kinds of failures are counted together, up to the lowest of their numbers")
    if active.get("unhealthy").get("http_statuses"):
        said.append("every status that is not among the healthy ones is a failure")
    if active.get("type").text() == "https":
        said.append("the probe is sent with the scheme of the instance")
    return "; ".join(said)


def _numbers(bad: Item, defaults: tuple[int, int, int]) -> list[int]:
    return [int(bad.get(key).number(one)) for key, one in zip(_FAILURES, defaults, strict=True)]


def _passive(passive: Item, part: Part, defaults: Defaults) -> None:
    bad = passive.get("unhealthy")
    counts = _numbers(bad, defaults.passive)
    failures = min([one for one in counts if one] or [0])
    passive.ignore("type", "healthy")
    bad.get("http_statuses")
    if not passive:
        return
    if not failures:
        part.set(
            "ejection.max",
            "0%",
            passive.at,
            "no instance is taken out by traffic there, so ejection is off",
        )
        return
    part.set(
        "ejection.failures",
        failures,
        passive.at,
        "an instance comes back after ejection.time by itself; failures are 5xx, resets and"
        " timeouts in a row",
    )
