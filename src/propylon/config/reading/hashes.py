"""Find hashes of `balance` by which a client chooses the instance, and those whose key a route does not have. Pure."""

from collections.abc import Iterator

from propylon.config.models.schema import GatewayConfig, RouteConfig
from propylon.config.reading.problems import Finding

__all__ = ["chosen_instances", "missing_segments"]


def chosen_instances(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for each service whose load anybody can send to one instance."""
    for name, service in config.services.items():
        key = service.balance.hash or ""
        if (
            not key.startswith(("header:", "cookie:", "query:"))
            or service.balance.bound is not None
        ):
            continue
        route = next((one for one in _leading(config, name) if one.auth != "required"), None)
        if route is not None:
            msg = (
                f"is {key}, and a client without a token may send what it likes there, also what brings all its requests to one"
                f' instance (route "{route.name}"); write a bound beside it, such as bound: 1.25'
            )
            yield ("services", name, "balance", "hash"), msg


def missing_segments(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for each service with a hash of a segment that the path of one of its routes does not have."""
    for name, service in config.services.items():
        kind, _, segment = (service.balance.hash or "").partition(":")
        if kind != "path":
            continue
        for route in _leading(config, name):
            if f"{{{segment}}}" not in route.path.split("/"):
                msg = (
                    f'is path:{segment}, and the path of the route "{route.name}" has no {{{segment}}}, so its requests go by the'
                    f" client's address; name the segment in the path, as in {route.path.rstrip('/')}/{{{segment}}}"
                )
                yield ("services", name, "balance", "hash"), msg
                break


def _leading(config: GatewayConfig, service: str) -> Iterator[RouteConfig]:
    return (route for route in config.routes if service in route.services)
