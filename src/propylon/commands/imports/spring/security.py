"""Tokens, as far as the file says it; what Java code says of routes is not in it."""

from __future__ import annotations

from typing import Any

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.report import At
from propylon.commands.imports.spring.properties import below, text_of
from propylon.commands.imports.tree import Item, named

__all__ = ["protect"]

_DISCOVERY = "/.well-known/openid-configuration"


def protect(document: Item, draft: Draft, gateway: At) -> None:
    """Open the routes, or ask for tokens, as Spring Boot does with these properties."""
    security = below(document, "spring", "security")
    jwt = below(document, "spring", "security", "oauth2", "resourceserver", "jwt")
    if jwt:
        _tokens(jwt, draft)
    elif security:
        for route in draft.routes:
            route.close(
                security.at,
                "spring.security logs users in; propylon checks tokens",
                "write auth.jwt, and auth: required",
            )
    else:
        for route in draft.routes:
            route.open()
    if draft.routes:
        draft.lost(
            jwt.at if jwt else gateway,
            "rules in Java code, such as a SecurityWebFilterChain or a GlobalFilter, are not in this file",
            "write auth, scopes and roles at the routes that the code protects",
        )


def _tokens(jwt: Item, draft: Draft) -> None:
    issuer = text_of(named(jwt, "issuer-uri").text())
    keys = text_of(named(jwt, "jwk-set-uri").text())
    entry: dict[str, Any] = {}
    if keys:
        entry["jwks_url"] = keys
        if issuer:
            entry["issuer"] = issuer
    elif issuer:
        entry["discovery_url"] = type(issuer)(issuer.rstrip("/") + _DISCOVERY)
    if audiences := named(jwt, "audiences").texts():
        entry["audience"] = audiences
        if len(audiences) > 1:
            draft.differs(named(jwt, "audiences").at, "a token must have one of the audiences")
    written = bool(entry.keys() & {"jwks_url", "discovery_url"}) and draft.section(
        "auth.jwt", [entry], jwt.at
    )
    for route in draft.routes:
        if written:
            route.set("auth", "required", jwt.at, protects=True)
        else:
            route.close(jwt.at, "the keys of tokens are not translated", "write auth.jwt")
