"""Check whether a route can have the fallback and the mirror that it asks for. Pure."""

from collections.abc import Mapping
from typing import Any

from propylon.config.models.fallback import FallbackConfig
from propylon.config.models.mirror import MirrorConfig

__all__ = ["Detour", "check_others", "check_possible"]

Detour = FallbackConfig | MirrorConfig | None


def check_possible(detour: Detour, route: Mapping[str, Any]) -> Detour:
    """Return a fallback or a mirror that the route can have. Raises ValueError, whose message tells the operator what to write."""
    if detour is None:
        return None
    if isinstance(detour, FallbackConfig) and detour.stored and not route.get("cache", True):
        msg = "has stored: true, and this route has no cache; write cache: {ttl: 30s}, or take `stored` out"
        raise ValueError(msg)
    if route.get("methods") == ("WEBSOCKET",):
        msg = "is for requests, and this route takes only WebSockets; take it out"
        raise ValueError(msg)
    return detour


def check_others(service: str, route: Mapping[str, Any]) -> str:
    """Return the service of a route, if it is not its own fallback or mirror. Raises ValueError."""
    own = {service, *(part.service for part in route.get("split") or ())} - {""}
    for key in ("fallback", "mirror"):
        other = route.get(key)
        if other is not None and other.service in own:
            msg = f'"{other.service}" is also the service of its {key}; write another one there, or {key}: none'
            raise ValueError(msg)
    return service
