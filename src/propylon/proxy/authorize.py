"""AUTHORIZE: may they. Pure."""

from __future__ import annotations

from ipaddress import ip_address

from propylon.errors import Forbidden
from propylon.proxy.principal import Principal

__all__ = ["anybody", "loopback_only"]


def anybody(principal: Principal, client: str) -> None:
    """Let everybody pass who was let in."""


def loopback_only(principal: Principal, client: str) -> None:  # noqa: ARG001
    """Let pass who asks from this machine."""
    if not client or not ip_address(client).is_loopback:
        msg = "This endpoint answers on the loopback interface only"
        raise Forbidden(msg)
