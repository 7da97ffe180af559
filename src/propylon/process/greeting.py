"""Say on standard error where the gateway listens, and what is served there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from propylon.config.models.endpoints import PUBLIC, REDIRECT
from propylon.config.models.listeners import Tcp
from propylon.config.models.schema import GatewayConfig
from propylon.process.sockets import Listening

__all__ = ["greeting"]


def greeting(config: GatewayConfig, listeners: Iterable[Listening]) -> Iterator[str]:
    """Yield a line for each socket."""
    for listening in listeners:
        what = _served_on(listening.wanted.edge, config)
        proxied = " (PROXY protocol)" if listening.wanted.proxied else ""
        for place in _places(listening):
            yield f"listening on {place}{proxied}{what}"


def _places(listening: Listening) -> Iterator[str]:
    scheme = "https" if listening.wanted.tls else "http"
    for sock in listening.sockets:
        name = sock.getsockname()
        if isinstance(name, tuple):
            yield f"{scheme}://{Tcp(name[0], name[1])}"
        else:  # a path; of a socket that was passed without one, the address as it is written
            shown = f"unix:{name}" if name else str(listening.wanted.address)
            yield f"{shown} ({scheme})"


def _served_on(edge: str, config: GatewayConfig) -> str:
    if edge == PUBLIC:
        return _verifying(config)
    if edge == REDIRECT:
        return ", which redirects to https"
    if edge != config.admin.listen:
        return " for /metrics"
    alone = config.metrics.listen not in (None, edge)
    return " for the endpoints that want admin" + ("" if alone else " and /metrics")


def _verifying(config: GatewayConfig) -> str:
    """Say how many secrets verify tokens. A secret that was wrapped in its file would be more than one."""
    secrets = len(config.auth.jwt.secret or ())
    if not secrets:
        return ""
    return "; 1 secret verifies tokens" if secrets == 1 else f"; {secrets} secrets verify tokens"
