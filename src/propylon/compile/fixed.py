"""Compile routes without a service: `respond` and `redirect`."""

from __future__ import annotations

import re

from propylon.config.models.answered import QUERY, REST, RedirectConfig, RespondConfig
from propylon.config.models.route import RouteConfig
from propylon.proxy.fixed import Fixed, Piece, Redirected
from propylon.proxy.route import Forwards
from propylon.services import balance
from propylon.services.service import Fleet, Service
from propylon.wire.headers import render

__all__ = ["NO_SERVICE", "compile_fixed", "compile_respond"]

NO_SERVICE = Service("", Fleet(()), balance.round_robin())
"""Stands for the service of routes that have none."""

_TEXT = (b"Content-Type", b"text/plain; charset=utf-8")


def compile_fixed(written: RouteConfig) -> Forwards | None:
    """Return what answers the requests of a route by itself; None if a service does."""
    if written.respond is not None:
        return compile_respond(written.respond)
    return None if written.redirect is None else _redirected(written.redirect, written.path)


def compile_respond(written: RespondConfig) -> Fixed:
    """Return a fixed answer."""
    pairs = [
        (name.encode("ascii"), value.encode("ascii")) for name, value in written.headers.items()
    ]
    typed = any(name.lower() == b"content-type" for name, _ in pairs)
    if not typed and written.body:
        pairs.append(_TEXT)
    return Fixed(written.status, render(pairs), written.body.encode("utf-8"))


def _redirected(written: RedirectConfig, path: str) -> Redirected:
    segments = path.strip("/").split("/") if path.strip("/") else []
    pieces: list[Piece] = []
    before = ""
    for part in re.split(r"(\{[^{}]*\})", written.to):
        if not part.startswith("{"):
            before += part
            pieces += [part.encode("ascii")] if part else []
        elif part == QUERY:
            pieces.append("query")
        else:
            kind = "value" if "?" in before or "#" in before else "path"
            at = -1 if part == REST else segments.index(part)
            pieces.append(("value" if kind == "value" else "path", at))
    return Redirected(written.status, tuple(pieces), len(segments))
