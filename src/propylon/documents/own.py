"""Take apart the document that FastAPI makes of the gateway's own endpoints and a team's. Pure.

FastAPI describes what it would answer by itself. The gateway answers errors in its envelope, and asks for tokens before
FastAPI is called. Both is put right here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from propylon.documents.published import ANYBODY, Callers, Published
from propylon.documents.read import SEGMENT

__all__ = ["ENVELOPE", "components_of", "operations_of"]

ENVELOPE = "schemas/Envelope"
# FastAPI's own form of a 422, which the gateway never sends.
_FOREIGN = frozenset({"HTTPValidationError", "ValidationError"})
_BEARER = "bearer"
_TAG = "endpoints"
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch"})
_INVALID = {
    "description": "A field does not fit; `details.fields` says which, and why.",
    "content": {"application/json": {"schema": {"$ref": f"#/components/{ENVELOPE}"}}},
}


def components_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the components by section and name, as JSON texts."""
    return {
        f"{section}/{name}": orjson.dumps(_with_example(value)).decode()
        for section, some in document.get("components", {}).items()
        if section != "securitySchemes"
        for name, value in some.items()
        if name not in _FOREIGN
    }


def _with_example(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a component with an example, if it is one that its model cannot give one: an enumeration, any JSON value."""
    if "example" in schema or "examples" in schema:
        return schema
    if schema.get("enum"):
        return {**schema, "examples": schema["enum"][:1]}
    return schema if "type" in schema or "anyOf" in schema else {**schema, "examples": ["text"]}


def operations_of(
    document: Mapping[str, Any], wants_token: Callable[[str, str], bool | None]
) -> Iterator[Published]:
    """Yield the operations. `wants_token` says of a path and a method whether the gateway asks for a token there.

    It returns None for an endpoint that the gateway does not serve now: one that is off, or has given way to a route.
    """
    for path, item in document.get("paths", {}).items():
        for method, operation in item.items():
            asks = wants_token(path, method.upper()) if method in _METHODS else None
            if asks is not None:
                yield _published(path, method, dict(operation), asks=asks)


def _published(path: str, method: str, operation: dict[str, Any], *, asks: bool) -> Published:
    name = operation.pop("operationId", f"{method} {path}")
    security = operation.pop("security", None)
    parameters = operation.pop("parameters", [])
    if "422" in operation.get("responses", {}):
        operation["responses"] = {**operation["responses"], "422": _INVALID}
    operation.setdefault("tags", [_TAG])
    operation.setdefault("summary", f"{method.upper()} {path}")
    found = {one["name"]: one for one in parameters if one["in"] == "path"}
    return Published(
        tuple(path.strip("/").split("/")) if path.strip("/") else (),
        method.upper(),
        name,
        orjson.dumps(operation).decode()[1:-1],
        _callers(security, asks=asks),
        operation["tags"][0],
        {name: _members(one) for name, one in found.items()},
        tuple(orjson.dumps(_as_text(one)).decode() for one in parameters if one["in"] != "path"),
    )


def _as_text(parameter: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter; a header that FastAPI reads as a list of lines is one text, as clients send it."""
    schema = parameter.get("schema", {})
    kinds = [kind.get("type") for kind in schema.get("anyOf", ())]
    if parameter["in"] != "header" or "array" not in kinds:
        return parameter
    kept = {key: one for key, one in schema.items() if key not in ("anyOf", "examples", "default")}
    return {**parameter, "schema": {**kept, "type": "string"}}


def _callers(security: list[dict[str, list[str]]] | None, *, asks: bool) -> Callers:
    scopes = [frozenset(one[_BEARER]) for one in security or () if _BEARER in one]
    # FastAPI lists the scopes of each dependency by itself; a caller needs those of all of them.
    needed = frozenset().union(*scopes)
    if not scopes and not asks:
        return ANYBODY
    return Callers((needed,), anonymous=bool(scopes) and not asks and not needed)


def _members(parameter: Mapping[str, Any]) -> str:
    """Return the members of a parameter of the path, with a pattern and an explanation."""
    members = {key: one for key, one in parameter.items() if key not in ("name", "in", "required")}
    schema = dict(members.get("schema", {}))
    if schema.get("type") == "string" and not schema.keys() & {"pattern", "enum", "format"}:
        schema["pattern"] = SEGMENT
    members["schema"] = schema
    members.setdefault("description", f"The segment `{parameter['name']}` of the path.")
    return orjson.dumps(members).decode()[1:-1]
