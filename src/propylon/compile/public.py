"""Compile how a path is changed on its way to the service, and how the answer is put back under the public address. Pure."""

from __future__ import annotations

from propylon.compile.changes import segment_places
from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.templates import names_of_rewrite
from propylon.proxy.public import Public
from propylon.proxy.rewrite import Rewrite
from propylon.proxy.template import Name

__all__ = ["compile_host", "compile_public", "compile_rewrite"]


def compile_host(written: str) -> bytes | None:
    """Return the Host that a service's requests carry: None, the instance's; empty, the client's."""
    return {"upstream": None, "client": b""}.get(written, written.encode("ascii"))


def compile_rewrite(written: RouteConfig, segments: int) -> Rewrite | None:
    """Return what replaces the `segments` segments that the route matches; None if the path goes out as it came."""
    if written.rewrite is None:
        return Rewrite(segments) if written.strip_prefix and segments else None
    places = segment_places(written.path)
    # The replacement ends without a slash.
    found = names_of_rewrite(written.rewrite.rstrip("/"), written.path)
    pieces = [
        places[piece.of] if isinstance(piece, Name) and piece.kind == "path" else piece
        for piece in found
    ]
    return Rewrite(segments, tuple(pieces), written.rewrite.endswith("/"), written.rewrite)


def compile_public(config: GatewayConfig, service: str) -> Public | None:
    """Return what is changed in the answers of a service; None if nothing is."""
    written = config.services[service]
    domain = {"pass": None, "rewrite": b""}.get(
        written.cookies.domain, written.cookies.domain.encode("ascii")
    )
    origin = config.server.public_url or ""
    public = Public(
        redirects=written.redirects == "rewrite",
        origin=origin.rstrip("/").encode("ascii"),
        cookie_path=written.cookies.path == "rewrite",
        cookie_domain=domain,
    )
    return None if public == Public(redirects=False, origin=public.origin) else public
