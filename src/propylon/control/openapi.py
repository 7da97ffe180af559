"""Let `/docs` ask for a username and a password, where there is an endpoint that takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from propylon.control.identity import BEARER

__all__ = ["offer_password"]

PASSWORD = "password"  # noqa: S105 — the scheme's name in the documentation


def offer_password(app: FastAPI, token_url: str) -> None:
    """Describe the password flow, beside a token, as a way into every operation that needs one."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        schemes = document.get("components", {}).get("securitySchemes", {})
        if BEARER in schemes and PASSWORD not in schemes:
            needed = list(_alternatives(document))
            flow = {"tokenUrl": token_url, "scopes": dict.fromkeys(sorted(set(needed)), "")}
            schemes[PASSWORD] = {"type": "oauth2", "flows": {"password": flow}}
        return document

    # https://fastapi.tiangolo.com/how-to/extending-openapi/
    app.openapi = openapi  # type: ignore[method-assign]


def _alternatives(document: dict[str, Any]) -> Iterator[str]:
    """Add the alternative wherever a token is needed; yield the scopes."""
    for path in document.get("paths", {}).values():
        for operation in path.values():
            asked = operation.get("security", []) if isinstance(operation, dict) else []
            for one in [one for one in asked if BEARER in one]:
                asked.append({PASSWORD: one[BEARER]})
                yield from one[BEARER]
