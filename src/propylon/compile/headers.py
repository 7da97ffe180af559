"""Compile what a route does to headers: names become bytes, and values become lines that are sent as they are. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from propylon.config.models.headers import HeaderRulesConfig
from propylon.config.models.schema import HeadersConfig
from propylon.proxy.route import NO_OVERRIDES, HeaderOverrides
from propylon.wire.cookies import without_cookies
from propylon.wire.headers import render

__all__ = ["Headers", "compile_headers"]


@dataclass(frozen=True, slots=True)
class Headers:
    """What a route does to headers."""

    request_remove: tuple[bytes, ...]
    request_set: bytes
    request_overrides: HeaderOverrides
    hide_cookies: Callable[[bytes], bytes] | None  # takes cookies out of a request's block
    response_remove: tuple[bytes, ...]
    response_set: bytes
    response_overrides: HeaderOverrides
    response_cookies: frozenset[bytes]


def compile_headers(written: HeadersConfig, replaced: tuple[bytes, ...]) -> Headers:
    """Return what a route does to headers; `replaced` are those of a response that CORS sets itself."""
    request, response = written.request, written.response
    return Headers(
        request_remove=_names(request.remove, request.set),
        request_set=_lines(_split(request.set, protected=False)),
        request_overrides=_overrides(request),
        hide_cookies=_hiding(request.remove_cookies),
        response_remove=(*_names(response.remove, response.set), *replaced),
        response_set=_lines(_split(response.set, protected=False)),
        response_overrides=_overrides(response),
        response_cookies=_cookies(response.remove_cookies),
    )


def _cookies(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(name.encode("ascii") for name in names)


def _hiding(names: Iterable[str]) -> Callable[[bytes], bytes] | None:
    removed = _cookies(names)
    return (lambda block: without_cookies(block, removed)) if removed else None


def _names(removed: Iterable[str], replaced: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(name.lower().encode("ascii") for name in (*removed, *replaced))


# Headers that the gateway sets itself, or puts back for a trusted proxy. What a file sets under these names replaces the
# gateway's value; what it removes is removed from the finished message.
_GATEWAY_HEADERS = re.compile(
    r"host|x-request-id|x-forwarded-.*|x-user-.*|trace(?:parent|state)|x-privacy-level|dnt|sec-gpc"
    r"|forwarded|x-real-ip|x-original-url|x-rewrite-url|x-http-method-override"
    r"|max-forwards|x-error-source|vary|access-control-.*|x-ratelimit-.*|ratelimit(?:-policy)?",
    re.IGNORECASE,
)


def _split(pairs: Mapping[str, str], *, protected: bool) -> dict[str, str]:
    """Return the pairs whose names are the gateway's own headers, or those whose names are not."""
    return {
        name: value
        for name, value in pairs.items()
        if bool(_GATEWAY_HEADERS.fullmatch(name)) is protected
    }


def _overrides(rules: HeaderRulesConfig) -> HeaderOverrides:
    own = _split(rules.set, protected=True)
    removed = [name for name in rules.remove if _GATEWAY_HEADERS.fullmatch(name)]
    if not own and not removed:
        return NO_OVERRIDES
    return HeaderOverrides(_names(removed, own), _lines(own))


def _lines(pairs: dict[str, str]) -> bytes:
    return render((name.encode("ascii"), value.encode("latin-1")) for name, value in pairs.items())
