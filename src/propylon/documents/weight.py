"""Weigh schemas: how many of them may one value of a request be held against? Pure.

Facts. Alternatives multiply. With `anyOf: [A, B]` in which both A and B lead back to themselves, each level of a body
doubles the work: a client that nests thirty objects in a hundred bytes would hold the loop for minutes. A schema can be
as bad without coming back, if it is long.

Strategy. For each schema, and for each level below the value that it is about, count how many schemas a value there meets
at the most. What multiplies from level to level passes `MOST` soon, and is not checked at all. What only adds up does not.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

__all__ = ["MOST", "Weights"]

Json = Any
# More than what real schemas come to: a union of twenty models has forty.
MOST = 400
# Levels that are looked at. Bodies may be nested deeper: what grows without multiplying is small there, too.
_LEVELS = 40
# References that lead to references, all about one value.
_LONGEST_CHAIN = 40
# Values of an `enum` that are compared in the time of one small schema.
_COMPARED = 8
_SCHEMAS = "#/components/schemas/"
_LISTS = ("allOf", "anyOf", "oneOf")
_ONES = ("not", "if", "then", "else")


class Weights:
    """The weights of a document's schemas, and of those that refer to them."""

    def __init__(self, schemas: Mapping[str, Json]) -> None:
        """Weigh these components, by name."""
        self._schemas = schemas
        self._levels: list[dict[str, int]] = []

    def settle(self) -> Generator[None, None, None]:
        """Do the work, in slices: level by level, until nothing changes from one to the next."""
        for _ in range(_LEVELS):
            self._levels.append({})
            for name in self._schemas:
                self._named(_SCHEMAS + name, len(self._levels) - 1, 0)
                yield
            if self._levels[-1] in ({}, *self._levels[-2:-1]):
                return

    def of(self, schema: Json) -> int:
        """Return how many schemas one value meets at the most; more than `MOST`: too many to count."""
        return max(self._count(schema, level, 0) for level in range(len(self._levels) + 1))

    def _count(self, schema: Json, level: int, hops: int) -> int:
        """Return how many schemas meet a value that lies `level` below the one that the schema is about."""
        if not isinstance(schema, Mapping):
            return int(level == 0)
        found = 1 + len(schema.get("enum", ())) // _COMPARED if level == 0 else 0
        if level:
            found = self._below(schema, level - 1)
        if "$ref" in schema:
            found += self._named(schema["$ref"], level, hops)
        for one in _beside(schema):
            found += self._count(one, level, hops)
        return min(found, MOST + 1)

    def _named(self, target: str, level: int, hops: int) -> int:
        name = target.removeprefix(_SCHEMAS)
        if name not in self._schemas:
            return MOST + 1  # too large to be looked at, or nothing that a schema refers to
        level = min(level, len(self._levels) - 1)
        known = self._levels[level]
        if name not in known:
            if hops > _LONGEST_CHAIN:
                return MOST + 1
            # Who comes here again on the way goes round in a circle without a step into the body.
            known[name] = MOST + 1
            known[name] = self._count(self._schemas[name], level, hops + 1)
        return known[name]

    def _below(self, schema: Mapping[str, Json], level: int) -> int:
        def most(*schemas: Json) -> int:
            return max((self._count(one, level, 0) for one in schemas), default=0)

        patterns = sum(
            self._count(one, level, 0) for one in schema.get("patternProperties", {}).values()
        )
        fields = most(*schema.get("properties", {}).values(), *_rest(schema, _OF_OBJECTS))
        members = most(*schema.get("prefixItems", ()), *_rest(schema, _OF_ARRAYS))
        return max(patterns + fields, members + most(*_rest(schema, ("contains",))))


_OF_OBJECTS = ("additionalProperties", "unevaluatedProperties", "propertyNames")
_OF_ARRAYS = ("items", "unevaluatedItems")


def _rest(schema: Mapping[str, Json], names: tuple[str, ...]) -> Iterator[Json]:
    yield from (schema[name] for name in names if name in schema)


def _beside(schema: Mapping[str, Json]) -> Iterator[Json]:
    """Yield the schemas that are about the same value."""
    for name in _LISTS:
        yield from schema.get(name, ())
    yield from _rest(schema, _ONES)
    yield from schema.get("dependentSchemas", {}).values()
