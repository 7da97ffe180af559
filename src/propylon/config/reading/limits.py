"""Find limits that a client can get past. Pure."""

from collections.abc import Iterator

from propylon.config.models.limits import LimitConfig
from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.config.reading.problems import Finding, Path

__all__ = ["limit_warnings"]

# Keys that tell one client from another, and that a client without a token cannot choose.
_TELLING = ("caller", "ip", "claim:")


def limit_warnings(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning, once, for each limit that a client escapes with another header."""
    warned: set[Path] = set()
    for at, route in enumerate(config.routes):
        if route.auth == "required" or route.basic_auth:
            continue
        found = list(_limits_of(config, at, route))
        if any(_holds(limit) for _, limit in found):
            continue  # whatever the header says, this one counts
        for path, limit in found:
            header = next((key for key in limit.key if key.startswith("header:")), None)
            if header is not None and path not in warned:
                warned.add(path)
                msg = (
                    f"counts by {header}, and a client without a token may send another one with each request"
                    f' (route "{route.name}"); add a limit with key: ip'
                )
                yield path, msg


def _holds(limit: LimitConfig) -> bool:
    # Of a list of keys each combination has its own budget: one header among them is enough to escape.
    return not any(key.startswith("header:") for key in limit.key) and any(
        key.startswith(_TELLING) for key in limit.key
    )


def _limits_of(
    config: GatewayConfig, at: int, route: RouteConfig
) -> Iterator[tuple[Path, LimitConfig]]:
    own: Path = ("routes", at, "rate_limit")
    limits = route.rate_limit
    if limits is None:
        own, limits = ("defaults", "rate_limit"), config.defaults.rate_limit
    found = [(own, limits)]
    for service in route.services:
        path: Path = ("services", service, "rate_limit")
        found.append((path, config.services[service].rate_limit))
    for path, some in found:
        for number, limit in enumerate(some or ()):
            yield ((*path, number) if len(some or ()) > 1 else path), limit
