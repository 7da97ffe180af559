"""Check that the names in `rewrite` and in values of a route are those of its path, and that they can have a value."""

from collections.abc import Mapping, Sequence
from typing import Any

from propylon.config.models.headers import HeadersConfig
from propylon.config.models.templates import QueryConfig, names_in, names_of_rewrite
from propylon.proxy.template import Name

__all__ = ["check_rewrite", "check_values"]


def check_rewrite(path: str, data: Mapping[str, Any], judged: Sequence[str]) -> None:
    """Check the names in `rewrite`; `judged` are the keys of the route that need its path in the service's document."""
    pieces = names_of_rewrite(data.get("rewrite") or "", path)
    names = [piece for piece in pieces if isinstance(piece, Name)]
    for name in names:
        if name.kind == "path" and f"{{{name.of}}}" not in path.split("/"):
            msg = f"rewrite has {{{name.of}}}, which the path has not; write one of its names, or name it in the path"
            raise ValueError(msg)
        if name.kind == "claim" and data.get("auth") == "none":
            msg = f"rewrite has {name}, and with `auth: none` no token is read; write `auth: required`"
            raise ValueError(msg)
    filled = next((name for name in names if name.kind != "path"), None)
    if filled is not None and judged:
        msg = f"rewrite has {filled}, so `{judged[0]}` cannot find the operation in the service's document; take out one of them"
        raise ValueError(msg)


def check_values(path: str, data: Mapping[str, Any]) -> None:
    """Check the segments of the path that values of headers and of the query name."""
    headers = data.get("headers") or HeadersConfig()
    query = data.get("query") or QueryConfig()
    for name in names_in([*headers.request.texts, *headers.response.texts, *query.texts]):
        if name.kind == "path" and name.of and f"{{{name.of}}}" not in path.split("/"):
            msg = f"has no {{{name.of}}}, which a value with {name} needs; name a segment so, or take the value out"
            raise ValueError(msg)
