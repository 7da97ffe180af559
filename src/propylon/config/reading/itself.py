"""Find services whose URL is the gateway's own address. Pure.

uvicorn and the gateway have the same default port, 8000. A request to such a service comes back to the gateway, which sends it to
itself once more: one request takes all its connections.
"""

from collections.abc import Iterator
from ipaddress import ip_address

from propylon.config.models.listeners import Tcp
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.syntax import UpstreamUrl, parse_upstream
from propylon.config.reading.problems import Finding

__all__ = ["own_addresses"]

_EVERY = frozenset({"0.0.0.0", "::"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1"})


def own_addresses(config: GatewayConfig) -> Iterator[Finding]:
    """Yield a warning for each URL of an instance that leads back to a public listener."""
    listeners = list(_listeners(config))
    for name, service in config.services.items():
        for at, text in enumerate(service.urls):
            url = parse_upstream(text)
            if any(_leads_to(url, listener) for listener in listeners):
                key = ("url",) if service.url is not None else ("instances", at)
                msg = (
                    "is the gateway's own address, so a request would go round until no connection is free; write the"
                    " address of the service, or another server.port"
                )
                yield ("services", name, *key), msg


def _listeners(config: GatewayConfig) -> Iterator[Tcp]:
    server = config.server
    if server.listen is None:
        yield Tcp(server.host, server.port)
        return
    for listener in server.listen:
        if isinstance(listener.parsed, Tcp):
            yield listener.parsed


def _leads_to(url: UpstreamUrl, listener: Tcp) -> bool:
    if url.socket or url.srv or url.port != listener.port:
        return False
    if listener.host in _EVERY:
        return _is_loopback(url.host)
    return url.host == listener.host or {url.host, listener.host} <= _LOOPBACK


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
