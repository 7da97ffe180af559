"""CHECK: have the instances of a fleet probed, and tell it what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from propylon.services.fleet import Fleet
from propylon.services.instance import HealthRules, Instance
from propylon.upstream.probe import Probe, Prober, ProbeTarget, Result, ask

__all__ = ["Checks", "check"]

Clock = Callable[[], float]

# What is asked where the operator said nothing: then any answer but a 5xx will do.
_DEFAULT_RULES = HealthRules()
# Whoever asks how an instance is now is not kept waiting for longer, whatever probes are granted.
_ON_DEMAND_TIMEOUT = 1.0


class Checks:
    """The watcher of all fleets of a gateway."""

    __slots__ = ("_prober", "_targets")

    def __init__(self, prober: Prober) -> None:
        """Have `prober` ask."""
        self._prober = prober
        self._targets: dict[Instance, ProbeTarget] = {}

    def watch(self, fleet: Fleet, instance: Instance, rules: HealthRules) -> None:
        """Probe the instance from now on."""
        self.forget(instance)
        report = partial(_report, fleet, instance)
        target = ProbeTarget(_probe(instance, rules), rules.interval, report)
        self._targets[instance] = target
        self._prober.watch(target)

    def forget(self, instance: Instance) -> None:
        """Probe it no more."""
        target = self._targets.pop(instance, None)
        if target is not None:
            self._prober.forget(target)


async def check(fleet: Fleet, instance: Instance, *, clock: Clock, wall: Clock) -> Result:
    """Probe the instance now, because somebody wants to know: for a second at the most.

    Where probes govern routing, those that come in time judge alone: who asks often must not make
    an instance ill sooner.
    """
    rules = fleet.rules(instance)
    probe = _probe(instance, rules)
    probe = replace(probe, timeout=min(probe.timeout, _ON_DEMAND_TIMEOUT))
    result = await ask(probe, clock=clock, wall=wall)
    if rules is None:
        _report(fleet, instance, result)
    return result


def _probe(instance: Instance, rules: HealthRules | None) -> Probe:
    effective = rules or _DEFAULT_RULES
    return Probe(
        upstream=instance.probe or instance.upstream,
        line=b"GET " + instance.base + effective.path,
        block=b"\r\nHost: " + instance.host + b"\r\nUser-Agent: propylon-health",
        timeout=effective.timeout,
        strict=rules is not None,
    )


def _report(fleet: Fleet, instance: Instance, result: Result) -> None:
    fleet.checked(
        instance,
        ok=result.ok,
        answered=result.answered,
        at=result.at,
        latency=result.latency,
        reason=result.reason,
    )
