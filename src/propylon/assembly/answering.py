"""Say what this worker answers when another one is asked for what all of them know."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from propylon.assembly.census import CIRCUITS, DOCUMENTS, INSTANCES, LIMITS, Census
from propylon.assembly.components import Components
from propylon.assembly.description import Description
from propylon.control import circuits, limits, registry
from propylon.proxy.route import Route

__all__ = ["open_census"]


def open_census(
    components: Components, description: Description, routes: Callable[[], Iterable[Route]]
) -> Census:
    """Return what answers for all workers, with what this one says."""
    census = Census(components.shared.facts)
    census.offer(CIRCUITS, lambda: circuits.parts(components.health.services))
    census.offer(INSTANCES, lambda: registry.parts(components.health.services))
    census.offer(DOCUMENTS, description.documents.parts)
    description.documents.join()
    census.offer(LIMITS, lambda: limits.parts(limits.limits_of(routes())))
    census.join()
    return census
