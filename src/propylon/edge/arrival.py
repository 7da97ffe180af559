"""Find out who is at the other end of a connection: the peer's address, TLS, and the client's certificate."""

from __future__ import annotations

import asyncio

from propylon.edge.client_certificate import read_certificate
from propylon.edge.trust import Trust
from propylon.proxy.exchange import Origin

__all__ = ["arrival"]


def arrival(transport: asyncio.Transport, trust: Trust, source: str | None = None) -> Origin:
    """Return the origin of a connection; `source` is the client's address where a PROXY header told it."""
    secured = transport.get_extra_info("ssl_object")
    scheme = "https" if transport.get_extra_info("sslcontext") else "http"
    proxied = source is not None
    peer = _peer(transport) if source is None else source
    if secured is None or not trust.reads_certificates:
        return trust.origin(peer, scheme, proxied=proxied)
    # Empty where the client has shown none: a certificate that is not valid ends the handshake.
    shown = secured.getpeercert()
    if not shown:
        return trust.origin(peer, scheme, proxied=proxied)
    holder, block = read_certificate(shown, secured.getpeercert(binary_form=True))
    return trust.origin(peer, scheme, proxied=proxied, holder=holder, certificate=block)


def _peer(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    name = str(peer[0]) if isinstance(peer, tuple) else ""  # a Unix socket has none
    return name.partition("%")[0]  # no IPv6 zone
