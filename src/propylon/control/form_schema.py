"""Describe forms in the API document: which fields go together, and that a field is a text or is not sent."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

__all__ = ["form_schema", "without"]


def form_schema(example: dict[str, Any], **rules: Any) -> ConfigDict:
    """Return the settings of a form: an example, and which fields go together (`rules`, of JSON Schema).

    A field of a form is a text or is not sent: there is no null in it.
    """

    def describe(schema: dict[str, Any]) -> None:
        for field in schema["properties"].values():
            kinds = [kind for kind in field.pop("anyOf", ()) if kind.get("type") != "null"]
            for kind in kinds:
                field.update(kind)
            if field.get("default", 0) is None:
                del field["default"]
        # RFC 6749, 3.1: unknown fields are ignored, but none may be repeated.
        schema.update(example=example, additionalProperties={"type": "string"}, **rules)

    return ConfigDict(json_schema_extra=describe)


def without(*names: str) -> dict[str, Any]:
    """Return the rule that none of these fields is sent."""
    return {"not": {"anyOf": [{"required": [name]} for name in names]}}
