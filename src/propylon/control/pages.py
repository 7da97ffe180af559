"""Lead from one page of a list to the next one: the header `Link` (RFC 8288)."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import Request, Response

__all__ = ["lead_on"]


def lead_on(request: Request, response: Response, last: str | None) -> None:
    """Name the next page: the same question, for what stands behind the `last` one. None: there is no next page."""
    if last is not None:
        query = urlencode({**request.query_params, "after": last})
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
