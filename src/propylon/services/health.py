"""CHECK: have the instances of a fleet probed (active health checks) and report the results to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from propylon.errors import LocalFault
from propylon.services.fleet import Fleet
from propylon.services.instance import HealthRules, Instance
from propylon.upstream.probe import Probe, Prober, ProbeTarget, Result, ask

__all__ = ["Checks", "check"]

Clock = Callable[[], float]

# Rule: probes use the same HTTP client as requests, so TLS, DNS and time limits of a probe are those of a request. A
# probe that takes another way could call an instance healthy that no request reaches.

# Probes of services without a `health` section. Then any answer but a 5xx is good, because the gateway does
# not know the service's health path, and a 404 from it still shows that the service runs.
_DEFAULT_RULES = HealthRules()
# Seconds. A load balancer that asks `/health` gives up after a few of them, so one slow instance must not hold
# the answer back, however long the timeout of its regular probes is.
_ON_DEMAND_TIMEOUT = 1.0


class Checks:
    """Keeps the probes of all fleets of a gateway going; the `Watcher` of each fleet."""

    __slots__ = ("_prober", "_targets")

    def __init__(self, prober: Prober) -> None:
        """Schedule the probes on `prober`."""
        self._prober = prober
        self._targets: dict[Instance, ProbeTarget] = {}

    def watch(self, fleet: Fleet, instance: Instance, rules: HealthRules) -> None:
        """Probe the instance every `rules.interval` seconds until `forget`."""
        self.forget(instance)
        report = partial(_report, fleet, instance)
        target = ProbeTarget(_probe(fleet, instance, rules), rules.interval, report)
        self._targets[instance] = target
        self._prober.watch(target)

    def forget(self, instance: Instance) -> None:
        """Stop probing the instance, if it is probed."""
        target = self._targets.pop(instance, None)
        if target is not None:
            self._prober.forget(target)


async def check(fleet: Fleet, instance: Instance, *, clock: Clock, wall: Clock) -> Result:
    """Probe the instance once, on demand of `/health`, for one second at most.

    Where health checks decide about routing, the result is returned but not counted. Else a client that
    asks `/health` often could reach `unhealthy_after` sooner than the operator meant.
    """
    # The caller shares one result for a second, so a flood on /health is one probe a second for each instance.
    rules = fleet.rules(instance)
    probe = _probe(fleet, instance, rules)
    probe = replace(probe, timeout=min(probe.timeout, _ON_DEMAND_TIMEOUT))
    result = await ask(probe, clock=clock, wall=wall)
    if rules is None:
        _report(fleet, instance, result)
    return result


def _probe(fleet: Fleet, instance: Instance, rules: HealthRules | None) -> Probe:
    effective = rules or _DEFAULT_RULES
    return Probe(
        upstream=instance.probe or instance.upstream,
        # The base path and Host of requests: a probe of another virtual host would prove nothing. User-Agent,
        # so that a service can leave probes out of its log, as it does kube-probe's.
        line=effective.method + b" " + instance.base + effective.path,
        block=b"\r\nHost: " + (effective.host or fleet.host or instance.host) + effective.headers,
        timeout=effective.timeout,
        strict=rules is not None,
        statuses=None if rules is None else rules.statuses,
        body=effective.body,
        tcp=effective.tcp,
    )


def _report(fleet: Fleet, instance: Instance, result: Result) -> None:
    if isinstance(result.error, LocalFault):
        return  # the gateway could not ask: that says nothing about the instance
    fleet.checked(
        instance,
        ok=result.ok,
        answered=result.answered,
        at=result.at,
        latency=result.latency,
        reason=result.reason,
    )
