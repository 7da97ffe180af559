"""Compile what chooses the instance of a request by what the request is: the hash of `balance`."""

from __future__ import annotations

from functools import partial

from propylon.config.models.services import ServiceConfig
from propylon.proxy.authenticate.claims import MISSING, claim_at
from propylon.proxy.limit.keys import (
    KeyOf,
    by_address,
    by_caller,
    by_claim,
    by_cookie,
    by_header,
    by_query,
    by_segment,
)
from propylon.proxy.principal import Principal
from propylon.proxy.route import Selects
from propylon.proxy.select import ByKey
from propylon.services.hashing import Rendezvous

__all__ = ["compile_selection"]

_ADDRESS = by_address()


def compile_selection(path: str, service: ServiceConfig | None) -> Selects | None:
    """Return what chooses the instances of a service on a route of this path; None: its `balance` does, by turns or by load."""
    if service is None or service.balance.hash is None:
        return None
    return ByKey(_key(service.balance.hash, path), Rendezvous(service.balance.bound))


def _key(key: str, path: str) -> KeyOf:
    kind, _, name = key.partition(":")
    match kind:
        case "caller":
            return by_caller(_ADDRESS)
        case "header":
            return by_header(name, _ADDRESS)
        case "cookie":
            return by_cookie(name, _ADDRESS)
        case "query":
            return by_query(name, _ADDRESS)
        case "claim":
            return by_claim(partial(_claim, name), _ADDRESS)
        case "path":
            segments = path.strip("/").split("/")
            segment = f"{{{name}}}"
            return (
                by_segment(segments.index(segment), _ADDRESS) if segment in segments else _ADDRESS
            )
    return _ADDRESS


def _claim(path: str, principal: Principal) -> object:
    value = claim_at(principal.claims, path)
    return None if value is MISSING else value
