"""List what a request must have and what an answer always has, so that two versions of an operation can be compared. Pure.

The lists are bounded: a few levels, a few hundred fields. What lies deeper changes without being noticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Outline"]

_DEEPEST = 5
_MOST = 300
_SCHEMAS = "#/components/schemas/"
_JSON = "application/json"


class Outline:
    """Reads the fields of requests and answers from the schemas of one document."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        """Resolve references by the document's own schemas."""
        self._schemas = schemas

    def required(self, parameters: Any, body: Any) -> frozenset[str]:
        """Return what a request must have: `query limit`, `body`, `body name`."""
        found = {
            f"{one['in']} {one['name']}"
            for one in parameters
            if one.get("required") is True and one["in"] != "path"
        }
        if isinstance(body, dict):
            if body.get("required") is True:
                found.add("body")
            found.update(f"body {field}" for field in self._fields(_schema_of(body)))
        return frozenset(found)

    def returned(self, responses: Mapping[str, Any]) -> frozenset[str]:
        """Return what good answers always have: `200 id`, `200 items[].price`."""
        found: set[str] = set()
        for status, response in responses.items():
            if status.startswith("2"):
                found.add(status)
                found.update(f"{status} {field}" for field in self._fields(_schema_of(response)))
        return frozenset(found)

    def _fields(self, schema: Any) -> set[str]:
        found: set[str] = set()
        for field in self._walk(schema, "", 0):
            found.add(field)
            if len(found) >= _MOST:
                break
        return found

    def _walk(self, schema: Any, at: str, depth: int) -> Iterator[str]:
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return
        target = schema.get("$ref")
        if isinstance(target, str) and target.startswith(_SCHEMAS):
            yield from self._walk(self._schemas.get(target[len(_SCHEMAS) :]), at, depth + 1)
        for part in _listed(schema.get("allOf")):
            yield from self._walk(part, at, depth + 1)
        if "items" in schema:
            yield from self._walk(schema["items"], f"{at}[]", depth + 1)
        properties = schema.get("properties")
        for name in _listed(schema.get("required")):
            field = f"{at}.{name}" if at else str(name)
            yield field
            inner = properties.get(name) if isinstance(properties, dict) else None
            yield from self._walk(inner, field, depth + 1)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _schema_of(holder: Any) -> Any:
    """Return the schema of a body or a response: the JSON one, else the first."""
    content = holder.get("content") if isinstance(holder, dict) else None
    if not isinstance(content, dict) or not content:
        return None
    media = content.get(_JSON) or next(iter(content.values()))
    return media.get("schema") if isinstance(media, dict) else None
