"""Generate the JSON schema of the configuration file, for editors. Pure."""

import json
from typing import Any

from propylon.config.models.schema import GatewayConfig

_BOUNDS = {"ge": "minimum", "le": "maximum"}
# A scalar may be written as `${VAR}`, and a key may be left without a value.
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_NULL = {"type": "null"}
_ANNOTATIONS = ("title", "description", "examples", "default")


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the file."""
    schema = GatewayConfig.model_json_schema(mode="validation")
    for model in (schema, *schema["$defs"].values()):
        required = model.get("required", ())
        for key, described in model.get("properties", {}).items():
            model["properties"][key] = _as_editable(described, optional=key not in required)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def json_schema_text() -> str:
    """Return the JSON schema as the text of `propylon.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _as_editable(described: dict[str, Any], *, optional: bool) -> dict[str, Any]:
    annotations = {key: described[key] for key in _ANNOTATIONS if key in described}
    # The default of a section is not shown, as those of its keys are; and None mostly means "all".
    if isinstance(annotations.get("default"), dict | list) or annotations.get("default", 0) is None:
        del annotations["default"]
    value = {
        _BOUNDS.get(key, key): part for key, part in described.items() if key not in _ANNOTATIONS
    }
    kinds = [part for part in value.pop("anyOf", [value]) if part and part != _NULL]
    if value and value not in kinds:
        kinds = [{**kind, **_bounds_for(kind, value)} for kind in kinds]
    if any(_is_scalar(kind) for kind in kinds) and {"type": "string"} not in kinds:
        kinds.append(_VARIABLE)
    if optional:
        kinds.append(_NULL)
    return {**annotations, "anyOf": kinds} if len(kinds) > 1 else {**annotations, **kinds[0]}


def _bounds_for(kind: dict[str, Any], bounds: dict[str, Any]) -> dict[str, Any]:
    return bounds if kind.get("type") in {"integer", "number"} else {}


def _is_scalar(kind: dict[str, Any]) -> bool:
    return kind.get("type") in {"integer", "number", "boolean"} or "enum" in kind
