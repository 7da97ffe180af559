"""Compile how the instances of a service are connected to: by TLS, over a Unix socket, behind a PROXY header."""

from __future__ import annotations

import ssl
from dataclasses import replace

from propylon.config.models.services import ServiceConfig
from propylon.config.models.syntax import UpstreamUrl, parse_upstream
from propylon.upstream.dial import Address
from propylon.upstream.tls import SYSTEM_TRUST, tls_context

__all__ = ["cluster_address", "configured_address", "probe_address", "registered_address"]


def configured_address(url: UpstreamUrl, written: ServiceConfig) -> Address:
    """Return the address of a URL of the service."""
    tls = _context(written) if url.scheme == "https" else None
    address = Address(url.host, url.port, tls, path=url.socket, proxy=written.proxy_protocol)
    return _with_name(address, written)


def registered_address(address: Address, written: ServiceConfig) -> Address:
    """Return the address of an instance that has registered, with what its service says of connections."""
    address = replace(address, proxy=written.proxy_protocol)
    schemes = {parse_upstream(url).scheme for url in written.urls}
    schemes |= {written.kubernetes.scheme} if written.kubernetes is not None else set()
    # Its tokens must not cross the network in the clear because another instance registered.
    if "https" in schemes or written.tls is not None:
        address = _with_name(replace(address, tls=_context(written)), written)
    return address


def cluster_address(host: str, port: int, name: str, written: ServiceConfig) -> Address:
    """Return the address of a pod of the service `name`, such as orders.shop: whose certificate it has to have."""
    within = written.kubernetes
    secure = within is not None and within.scheme == "https"
    tls = _context(written) if secure else None
    address = Address(
        host, port, tls, name=f"{name}.svc" if secure else "", proxy=written.proxy_protocol
    )
    return _with_name(address, written)


def probe_address(address: Address, written: ServiceConfig) -> Address:
    """Return where an instance is probed: at its own port, or at the one that `health` names."""
    port = None if written.health is None else written.health.port
    return address if port is None else replace(address, port=port)


def _context(written: ServiceConfig) -> ssl.SSLContext:
    return tls_context(SYSTEM_TRUST if written.tls is None else written.tls.settings)


def _with_name(address: Address, written: ServiceConfig) -> Address:
    if written.tls is None or address.tls is None:
        return address
    return replace(address, name=written.tls.name or address.name)
