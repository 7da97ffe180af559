"""Copy the objects of an OpenAPI document: checked, lifted to 3.1, their references renamed. Pure.

Rules.

1. Only members that `grammar` names are copied. One of another type than it says breaks the document.
2. `#/components/schemas/Item` becomes `#/components/schemas/orders.Item`: components of two services have one name often.
3. No other reference is followed. Files and addresses are never opened: whoever writes a service's document must not
   make the gateway ask for something.
4. Objects may be nested 64 deep. A reference is copied, not resolved, so a circle of them costs nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from propylon.documents.document import BrokenDocument
from propylon.documents.grammar import (
    OBJECTS,
    SCHEMA,
    STYLES,
    TYPES,
    List,
    Map,
    Object,
    One,
    Value,
)
from propylon.documents.unique import Unique

__all__ = ["SECTIONS", "Cleaner", "Names"]

_DEEPEST = 64
_MOST_NOTES = 20
_LONGEST_NOTE = 200
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")
_POINTER = re.compile(r"#/components/([A-Za-z]+)/([^/]+)((?:/.*)?)", re.DOTALL)

# The sections of `components` that are copied, with the kind of their objects.
SECTIONS = {
    "schemas": "schema",
    "responses": "response",
    "examples": "example",
    "requestBodies": "body",
    "headers": "header",
}


class Names:
    """The names of a document's components, and what each is called in the merged document."""

    def __init__(self, service: str, components: Mapping[str, Any]) -> None:
        """Name the components of a service; two of its names that differ in forbidden characters only stay apart."""
        self._renamed: dict[tuple[str, str], str] = {}
        for section in SECTIONS:
            names = Unique()
            for name in components.get(section) or ():
                # OpenAPI 3.1.1, 4.8.7.1: names match ^[a-zA-Z0-9\.\-_]+$. Behind the last dot stands what the service calls
                # it: `C` of the service `a.b` and `b.C` of the service `a` stay apart.
                plain = _NOT_IN_NAME.sub("_", str(name))[:200]
                self._renamed[section, name] = names.free(f"{service}.{plain}")

    def renamed(self, section: str, name: str) -> str | None:
        """Return the new name of a component; None if there is none of that name."""
        return self._renamed.get((section, name))


class Cleaner:
    """Copies objects, and notes what it leaves out. Its methods raise BrokenDocument."""

    def __init__(self, names: Names, *, lift: bool) -> None:
        """Copy references by `names`; `lift`: the document is of 3.0."""
        self._names = names
        self._lift = lift
        self._notes: dict[str, None] = {}
        self._values: Mapping[str, Callable[[Any, str], Any]] = {
            "text": _text,
            "flag": _flag,
            "number": _number,
            "count": _count,
            "names": _names,
            "type": _type,
            "list": _list,
            "data": data,
        }

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, each once."""
        notes = [*self._notes]
        more = len(notes) - _MOST_NOTES
        return (*notes[:_MOST_NOTES], *((f"and {more} more",) if more > 0 else ()))

    def note(self, text: str) -> None:
        """Note something that is left out."""
        if len(self._notes) <= 10 * _MOST_NOTES:
            self._notes[text[:_LONGEST_NOTE]] = None

    def object(self, kind: str, value: Any, at: str, depth: int = 0) -> Any:
        """Return a copy of an object; None for one that is left out."""
        if depth > _DEEPEST:
            raise _too_deep(at)
        if kind == "schema" and isinstance(value, bool):
            return value
        if not isinstance(value, dict):
            raise _unlike(at, "an object")
        grammar = SCHEMA if kind == "schema" else OBJECTS[kind]
        if "$ref" not in value:
            return self._copied(kind, grammar, value, at, depth)
        target = self._referring(kind, value, at)
        if target is None:
            return None if grammar.instead is None else dict(grammar.instead)
        if kind != "schema" or self._lift:
            return {"$ref": target}  # what stands beside it counts for nothing
        return {"$ref": target, **self._copied(kind, grammar, value, at, depth)}

    def _copied(
        self, kind: str, grammar: Object, value: dict[str, Any], at: str, depth: int
    ) -> dict[str, Any]:
        if kind == "schema" and self._lift:
            value = _lifted(value)
        copy: dict[str, Any] = {}
        for name, member in grammar.members.items():
            if name in value:
                found = self._member(member, value[name], f"{at}.{name}", depth)
                if found is not None or member == Value("data"):
                    copy[name] = found
        for name, instead in grammar.required.items():
            copy.setdefault(name, instead)
        return self._finished(kind, copy, at)

    def _member(self, member: Value | One | List | Map, value: Any, at: str, depth: int) -> Any:
        match member:
            case Value(form):
                return self._values[form](value, at)
            case One(kind):
                return self.object(kind, value, at, depth + 1)
            case List(kind):
                # JSON Schema 2020-12 core, 10.2.1: `allOf` and the like are never empty.
                copies = [self.object(kind, one, at, depth + 1) for one in _list(value, at)]
                return copies or None
            case Map(kind):
                return self.map(kind, value, at, depth)

    def map(self, kind: str, value: Any, at: str, depth: int = 0) -> dict[str, Any]:
        """Return copies of objects by their names."""
        if not isinstance(value, dict):
            raise _unlike(at, "an object")
        copies = {
            name: self.object(kind, one, f"{at}.{name}", depth + 1) for name, one in value.items()
        }
        return {name: one for name, one in copies.items() if one is not None}

    def _finished(self, kind: str, copy: dict[str, Any], at: str) -> dict[str, Any]:
        if kind in ("parameter", "header"):
            return _one_form(copy, at, None if kind == "header" else copy.get("in"))
        if kind == "media" and "example" in copy:
            copy.pop("examples", None)
        if kind == "discriminator":
            self._mapping(copy)
        return copy

    def _mapping(self, copy: dict[str, Any]) -> None:
        """Rename the schemas that a discriminator names: by a reference, or by their bare names."""
        mapping = copy.pop("mapping", None)
        if not isinstance(mapping, dict):
            return
        renamed = {}
        for value, target in mapping.items():
            bare = self._names.renamed("schemas", str(target))
            new = f"#/components/schemas/{bare}" if bare else self.reference("schema", str(target))
            if new is not None:
                renamed[value] = new
        copy["mapping"] = renamed

    def _referring(self, kind: str, value: dict[str, Any], at: str) -> str | None:
        target = value["$ref"]
        if not isinstance(target, str):
            at = f"{at}.$ref"
            raise _unlike(at, "text")
        new = self.reference(kind, target)
        if new is None:
            where = (
                "points to nothing" if target.startswith("#") else "is foreign, and not followed"
            )
            self.note(f"{at}: $ref {target} {where}")
        return new

    def reference(self, kind: str, target: str) -> str | None:
        """Return what a reference to a kind is called in the merged document; None if it leads to none there."""
        match = _POINTER.fullmatch(target)
        if match is None or match[3] or SECTIONS.get(match[1]) != kind:
            # What is deeper in a component, or in a path, may not be at the same place in the merged document.
            return None
        name = match[2].replace("~1", "/").replace("~0", "~")
        renamed = self._names.renamed(match[1], name)
        return None if renamed is None else f"#/components/{match[1]}/{renamed}"


def _one_form(copy: dict[str, Any], at: str, place: Any) -> dict[str, Any]:
    """Return a parameter or header with a schema or a content, one example or many, and a style that fits its place."""
    if "example" in copy:
        copy.pop("examples", None)
    content = copy.get("content")
    if "schema" in copy or not content or len(content) != 1:
        copy.pop("content", None)
        copy.setdefault("schema", {})
    if place is not None and place not in STYLES:
        at = f"{at}.in"
        raise _unlike(at, "path, query, header or cookie")
    if copy.get("style", "simple" if place is None else None) not in (
        STYLES["header"] if place is None else STYLES[place]
    ):
        copy.pop("style", None)
    if place != "query":
        copy.pop("allowEmptyValue", None)
        copy.pop("allowReserved", None)
    return copy


def _lifted(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of 3.0 as one of 3.1 (JSON Schema 2020-12)."""
    lifted = dict(schema)
    for name, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        # JSON Schema draft 5 had a flag beside the bound.
        if lifted.get(name) is True and bound in lifted:
            lifted[name] = lifted.pop(bound)
        elif isinstance(lifted.get(name), bool):
            del lifted[name]
    if lifted.pop("nullable", None) is True:
        if isinstance(lifted.get("type"), str):
            lifted["type"] = [lifted["type"], "null"]
        elif "type" not in lifted and any(key in lifted for key in ("allOf", "anyOf", "oneOf")):
            lifted = {"anyOf": [lifted, {"type": "null"}]}
        if isinstance(lifted.get("enum"), list) and None not in lifted["enum"]:
            lifted["enum"] = [*lifted["enum"], None]
    return lifted


# Values


def data(value: Any, at: str, depth: int = 0) -> Any:
    """Return JSON data as it is: an example, a default. Raises BrokenDocument if it is nested too deeply."""
    if depth > _DEEPEST:
        raise _too_deep(at)
    inner: Iterable[Any] = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    for one in inner:
        data(one, at, depth + 1)
    return value


def _unlike(at: str, what: str) -> BrokenDocument:
    msg = f"{at[-120:]}: must be {what}"
    return BrokenDocument(msg)


def _too_deep(at: str) -> BrokenDocument:
    msg = f"{at[:120]}: is nested more than {_DEEPEST} deep"
    return BrokenDocument(msg)


def _text(value: Any, at: str) -> str:
    if not isinstance(value, str):
        raise _unlike(at, "text")
    return value


def _flag(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        raise _unlike(at, "true or false")
    return value


def _number(value: Any, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _unlike(at, "a number")
    if at.endswith(".multipleOf") and value <= 0:
        raise _unlike(at, "a number above 0")
    return value


def _count(value: Any, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _unlike(at, "a whole number, 0 or more")
    return value


def _names(value: Any, at: str) -> list[str] | None:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _unlike(at, "a list of names")
    return list(dict.fromkeys(value))


def _list(value: Any, at: str) -> list[Any]:
    if not isinstance(value, list):
        raise _unlike(at, "a list")
    return list(data(value, at))


def _type(value: Any, at: str) -> Any:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(one, str) and one in TYPES for one in names):
        raise _unlike(at, "a type of JSON Schema")
    return list(dict.fromkeys(names)) if isinstance(value, list) else value
