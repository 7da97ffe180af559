"""Propylon: an API gateway for teams that write Python.

From the command line down to the bytes, each package using only those below it:

- `__main__`, `cli`, `commands`: start the program; parse its arguments; do what they ask.
- `main`: the gateway as an ASGI app, for other servers.
- `testing`: a gateway without sockets, for a team's tests.
- `process`: sockets, signals, workers and the stop.
- `assembly`: put the parts together, and hold what lives while a loop runs.
- `explain`: say what becomes of a request, and why.
- `control`: the gateway's own endpoints.
- `compile`: from what the operator wrote to what runs.
- `config`: what the operator may write, and how it is read.
- `documents`: the OpenAPI documents of services.
- `edge`: the ways in; `stores`: facts that are kept or shared; `telemetry`: logs and metrics.
- `proxy`: the stages of a request, in order.
- `services`: a service, its instances, and what happens when they fail.
- `upstream`: the HTTP client.
- `wire`: HTTP/1.1 without I/O; `names`: host names and addresses.
- `loop`: what asyncio does too slowly for every request; `errors`: the one tree of errors.
- `version`: the version, in one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from propylon.version import __version__

if TYPE_CHECKING:
    from propylon.assembly.gateway import Gateway
    from propylon.config.models.resilience import CircuitConfig
    from propylon.control.called import ServiceResponse
    from propylon.control.costs import Answer
    from propylon.control.identity import (
        current_principal,
        public,
        require_roles,
        require_scopes,
    )
    from propylon.control.parts import PartError, gather_parts
    from propylon.control.registration import RegistrationRequest
    from propylon.control.service import Service, service
    from propylon.control.traced import current_trace
    from propylon.errors import AuthError, Forbidden, GatewayError
    from propylon.proxy.principal import Principal
    from propylon.proxy.trace import Trace
    from propylon.wire.message import Request

__all__ = [
    "Answer",
    "AuthError",
    "CircuitConfig",
    "Forbidden",
    "Gateway",
    "GatewayError",
    "PartError",
    "Principal",
    "RegistrationRequest",
    "Request",
    "Service",
    "ServiceResponse",
    "Trace",
    "__version__",
    "current_principal",
    "current_trace",
    "gather_parts",
    "public",
    "require_roles",
    "require_scopes",
    "service",
]

_HOMES = {
    "Answer": "propylon.control.costs",
    "AuthError": "propylon.errors",
    "CircuitConfig": "propylon.config.models.resilience",
    "Forbidden": "propylon.errors",
    "Gateway": "propylon.assembly.gateway",
    "GatewayError": "propylon.errors",
    "PartError": "propylon.control.parts",
    "Principal": "propylon.proxy.principal",
    "RegistrationRequest": "propylon.control.registration",
    "Request": "propylon.wire.message",
    "Service": "propylon.control.service",
    "ServiceResponse": "propylon.control.called",
    "Trace": "propylon.proxy.trace",
    "current_principal": "propylon.control.identity",
    "current_trace": "propylon.control.traced",
    "gather_parts": "propylon.control.parts",
    "public": "propylon.control.identity",
    "require_roles": "propylon.control.identity",
    "require_scopes": "propylon.control.identity",
    "service": "propylon.control.service",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: `propylon --help` needs no FastAPI."""
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet among them."""
    return sorted(__all__)
