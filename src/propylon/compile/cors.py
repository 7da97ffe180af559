"""Compile what was written of CORS into what answers preflights."""

from __future__ import annotations

from collections.abc import Callable

from propylon.config.models.cors import CorsConfig
from propylon.config.models.origins import ANY
from propylon.proxy.cors import NO_CORS, Cors
from propylon.proxy.route import Answers

__all__ = ["RouteRules", "allows_credentials", "allows_origins", "compile_cors", "replaced_headers"]

_WILDCARD = "://*."


def compile_cors(written: CorsConfig) -> Cors | None:
    """Return what answers for CORS; None where no origin is written."""
    if not written.origins:
        return None
    plain = (origin for origin in written.origins if _WILDCARD not in origin)
    below = (origin.split(_WILDCARD) for origin in written.origins if _WILDCARD in origin)
    return Cors(
        origins=frozenset(origin.encode("ascii") for origin in plain),
        wildcards=tuple((f"{scheme}://".encode(), f".{host}".encode()) for scheme, host in below),
        any_origin=ANY in written.origins,
        methods=", ".join(method for method in written.methods if method != ANY).encode("ascii"),
        any_method=ANY in written.methods,
        headers=", ".join(written.headers).encode("ascii"),
        exposed=", ".join(written.expose).encode("ascii"),
        credentials=written.credentials,
        max_age=int(written.max_age),
        private_network=written.private_network,
    )


def replaced_headers(written: CorsConfig) -> tuple[bytes, ...]:
    """Return the headers of an upstream's answer that the gateway answers for."""
    cors = compile_cors(written)
    return () if cors is None else cors.replaced


def allows_origins(written: CorsConfig) -> Callable[[bytes], bool]:
    """Return what tells whether an origin is listed. `*` lists none: with it, CORS shows only what anyone may read."""
    cors = compile_cors(written)
    return (lambda _origin: False) if cors is None else cors.allows


def allows_credentials(written: CorsConfig) -> Callable[[bytes], bool]:
    """Return what tells whether CORS allows pages of an origin to send requests with cookies."""
    cors = compile_cors(written)
    if cors is None or not cors.credentials:
        return lambda _origin: False
    return cors.allows


class RouteRules:
    """What routes say of CORS in place of the gateway's. Routes that say the same share one object."""

    def __init__(self, gateway: CorsConfig) -> None:
        self._gateway = gateway
        self._known: dict[CorsConfig, Answers] = {}

    def of(self, written: CorsConfig | None) -> Answers | None:
        """Return what answers on a route; None where the gateway's rules hold."""
        if written is None or written == self._gateway:
            return None
        if (known := self._known.get(written)) is None:
            known = self._known[written] = compile_cors(written) or NO_CORS
        return known
