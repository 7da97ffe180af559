"""Compile what a route does to headers: names become bytes, and values become lines that are sent as they are. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from propylon.config.models.headers import HeaderRulesConfig
from propylon.config.models.schema import HeadersConfig
from propylon.proxy.route import NO_OVERRIDES, HeaderOverrides
from propylon.proxy.template import parse
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
        request_set=_lines(request, protected=False),
        request_overrides=_overrides(request),
        hide_cookies=_hiding(request.remove_cookies),
        response_remove=(*_names(response.remove, response.set), *replaced),
        response_set=_lines(response, protected=False),
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


def _is_own(name: str) -> bool:
    return _GATEWAY_HEADERS.fullmatch(name) is not None


def _overrides(rules: HeaderRulesConfig) -> HeaderOverrides:
    block = _lines(rules, protected=True)
    # Lines with names in them are put in their places elsewhere, and must not be taken out again.
    filled = {name.lower() for name, text in rules.set.items() if parse(text).names}
    own = [name for name in (*rules.remove, *rules.set) if _is_own(name)]
    names = _names((name for name in own if name.lower() not in filled), ())
    return HeaderOverrides(names, block) if names or block else NO_OVERRIDES


def _lines(rules: HeaderRulesConfig, *, protected: bool) -> bytes:
    """Return the lines without names in their values: of the gateway's own headers, or of others."""
    added = [(name, text) for name, texts in rules.add.items() for text in texts]
    pairs = [(name, parse(text)) for name, text in (*rules.set.items(), *added)]
    return render(
        (name.encode("ascii"), template.text)
        for name, template in pairs
        if not template.names and _is_own(name) is protected
    )
