"""Say which members the objects of an OpenAPI document have (OpenAPI 3.1.1, 4.8; JSON Schema 2020-12). Pure.

The reader copies what stands here and drops everything else. So what is merged into the gateway's document is valid,
whatever a service has written, and a member that a page might act on gets there only if it is meant to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["OBJECTS", "SCHEMA", "STYLES", "TYPES", "List", "Map", "Object", "One", "Value"]


@dataclass(frozen=True, slots=True)
class Value:
    """A member that holds no object of OpenAPI: `text`, `flag`, `number`, `count`, `names`, `data` or `list` of data."""

    form: str


@dataclass(frozen=True, slots=True)
class One:
    """A member that holds an object of a kind."""

    kind: str


@dataclass(frozen=True, slots=True)
class List:
    """A member that holds a list of objects of a kind."""

    kind: str


@dataclass(frozen=True, slots=True)
class Map:
    """A member that holds objects of a kind by their names."""

    kind: str


@dataclass(frozen=True, slots=True)
class Object:
    """A kind of object: its members, those that it must have, and what stands in the place of a bad reference to one."""

    members: Mapping[str, Value | One | List | Map]
    required: Mapping[str, Any] = field(
        default_factory=dict
    )  # with what is put where it is missing
    instead: Any = None  # None: the reference is dropped


TEXT, FLAG, DATA = Value("text"), Value("flag"), Value("data")
NUMBER, COUNT, NAMES, LIST = Value("number"), Value("count"), Value("names"), Value("list")
TYPES: Final = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
# The styles that a place of a parameter may have (OpenAPI 3.1.1, 4.8.12.3).
STYLES: Final = {
    "path": frozenset({"matrix", "label", "simple"}),
    "query": frozenset({"form", "spaceDelimited", "pipeDelimited", "deepObject"}),
    "header": frozenset({"simple"}),
    "cookie": frozenset({"form"}),
}
_SHOWN: Mapping[str, Value | One | List | Map] = {
    "description": TEXT,
    "required": FLAG,
    "deprecated": FLAG,
    "style": TEXT,
    "explode": FLAG,
    "schema": One("schema"),
    "content": Map("media"),
    "example": DATA,
    "examples": Map("example"),
}

OBJECTS: Final[Mapping[str, Object]] = {
    "parameter": Object(
        {"name": TEXT, "in": TEXT, "allowEmptyValue": FLAG, "allowReserved": FLAG, **_SHOWN}
    ),
    "header": Object(_SHOWN),
    "body": Object(
        {"description": TEXT, "content": Map("media"), "required": FLAG}, {"content": {}}
    ),
    "media": Object(
        {
            "schema": One("schema"),
            "example": DATA,
            "examples": Map("example"),
            "encoding": Map("encoding"),
        }
    ),
    "encoding": Object({"contentType": TEXT, "headers": Map("header")}),
    "response": Object(
        {"description": TEXT, "headers": Map("header"), "content": Map("media")},
        {"description": ""},
        {"description": ""},
    ),
    "example": Object({"summary": TEXT, "description": TEXT, "value": DATA}),
    "docs": Object({"description": TEXT, "url": TEXT}, {"url": "#"}),
    "discriminator": Object({"propertyName": TEXT, "mapping": DATA}, {"propertyName": ""}),
    # Of an operation, the members that are copied as they are. The reader takes the others apart.
    "operation": Object(
        {"description": TEXT, "externalDocs": One("docs"), "deprecated": FLAG},
    ),
}

_TEXTS = ("title", "description", "format", "pattern", "contentMediaType", "contentEncoding")
_FLAGS = ("deprecated", "readOnly", "writeOnly", "uniqueItems")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = (
    *("minLength", "maxLength", "minItems", "maxItems"),
    *("minProperties", "maxProperties", "minContains", "maxContains"),
)
_ONES = (
    *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)

SCHEMA: Final = Object(
    {
        **dict.fromkeys(_TEXTS, TEXT),
        **dict.fromkeys(_FLAGS, FLAG),
        **dict.fromkeys(_NUMBERS, NUMBER),
        **dict.fromkeys(_COUNTS, COUNT),
        **dict.fromkeys(("default", "example", "const"), DATA),
        **dict.fromkeys(("enum", "examples"), LIST),
        "required": NAMES,
        "type": Value("type"),
        **dict.fromkeys(_ONES, One("schema")),
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), List("schema")),
        **dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), Map("schema")),
        "discriminator": One("discriminator"),
        "externalDocs": One("docs"),
    },
    instead={},
)
