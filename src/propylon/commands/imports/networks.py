"""Write networks as propylon takes them."""

from __future__ import annotations

import ipaddress

__all__ = ["network"]


def network(text: str) -> str:
    """Return a network without the bits beyond its prefix, which other gateways ignore and propylon refuses.

    What is no network is returned as it is, and refused by the models.
    """
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return text
