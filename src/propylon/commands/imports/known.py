"""Know which keys and values of propylon.yaml this version takes.

Readers write keys as issue and reference have them, also those that a later version brings. Each is held against the
models of this version, so there is no second list that could be wrong.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from propylon.config.models.route import RouteConfig
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.services import ServiceConfig

__all__ = ["Kind", "has_key", "refusal", "without_files"]

Kind = Literal["route", "service", "section"]

_MODELS: dict[Kind, type[BaseModel]] = {
    "route": RouteConfig,
    "service": ServiceConfig,
    "section": GatewayConfig,
}


# In place of a file of users, which nobody reads here: the foreign file has named it, and it may be anything.
_USERS = "user:$2b$12$" + "a" * 21 + "O" + "a" * 31


def without_files(key: str, value: object) -> object:
    """Return a value with something valid in place of the files that it names; the models take their content."""
    if key == "basic_auth" and isinstance(value, dict) and value.get("file"):
        return {**value, "file": _USERS}
    return value


def has_key(kind: Kind, key: str) -> bool:
    """Tell whether this version has a key at all."""
    return key in _MODELS[kind].model_fields


def refusal(kind: Kind, key: str, value: object) -> str:
    """Return why this version does not take a value under a key of the first level; empty if it takes it."""
    if not has_key(kind, key):
        return f"this version of propylon has no `{key}`"
    try:
        _adapter(kind, key).validate_python(without_files(key, value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join([key, *(str(part) for part in first["loc"] if isinstance(part, str))])
        if first["type"] == "extra_forbidden":
            return f"this version of propylon has no `{where}`"
        return f"`{where}` does not take it: {first['msg'].removeprefix('Value error, ')}"
    return ""


@cache
def _adapter(kind: Kind, key: str) -> TypeAdapter[Any]:
    field = _MODELS[kind].model_fields[key]
    annotated: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotated)
