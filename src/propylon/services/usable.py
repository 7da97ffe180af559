"""Find the instances of a fleet that may be asked, and those of them that are asked first. Pure.

Rule: an instance of a lower priority is asked only while none of a higher one may be. "May be asked" means: healthy as far as
probes decide, not ejected, not drained.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from propylon.services.instance import Ejection, HealthRules, Instance

__all__ = ["ejected", "first", "most_ejected", "usable"]

RulesOf = Callable[[Instance], HealthRules | None]


def usable(instances: Iterable[Instance], rules_of: RulesOf) -> tuple[Instance, ...]:
    """Return the instances that may be asked, of all priorities."""
    healthy = tuple(one for one in instances if _is_healthy(one, rules_of))
    asked = tuple(one for one in healthy if one.state.ejected_until is None)
    # If all healthy instances are ejected, ask them all the same: an instance that fails some requests
    # is better than none (Envoy's panic threshold, YARP's HealthyOrPanic).
    return asked or healthy


def _is_healthy(instance: Instance, rules_of: RulesOf) -> bool:
    state = instance.state
    asked = rules_of(instance) is None or state.status in ("starting", "healthy")
    return asked and not state.drained


def first(instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
    """Return those of the highest priority; the same tuple, if that is all of them."""
    if len({one.priority for one in instances}) < 2:
        return instances
    highest = max(one.priority for one in instances)
    return tuple(one for one in instances if one.priority == highest)


def ejected(instances: Iterable[Instance]) -> list[tuple[Instance, float]]:
    """Return the ejected instances, each with the time when its ejection ends."""
    return [
        (one, one.state.ejected_until) for one in instances if one.state.ejected_until is not None
    ]


def most_ejected(
    rules: Ejection | None, instances: Sequence[Instance], asked: Collection[Instance]
) -> int:
    """Return how many instances may be ejected at once; `asked` are those that may be asked.

    All of them above an instance that stands by: it is there to take their place.
    """
    if rules is None:
        return 0
    lowest = min((one.priority for one in asked if one.state.ejected_until is None), default=None)
    above = 0 if lowest is None else sum(one.priority > lowest for one in instances)
    return max(rules.max_ejected(len(instances)), above)
