"""Compile an operation of a service's OpenAPI document (3.1) into a check of requests, or of answers. Pure.

Facts. The document comes from the service: its references may lead anywhere, and its patterns may be made to take for ever.
The request comes from the client. Both are hostile here.

Rules.

1. A request that the document admits is never refused. Where the document leaves open how a text is to be read, every
   reading counts: `7` is a number and a text.
2. No reference leaves the document, and patterns are matched in linear time. A schema that needs more is `Unusable`.
3. What is said of a request names the place and the rule, and never the value: it may be a password.
4. Properties that are `readOnly` need not be in a request, whatever `required` says, and `writeOnly` ones not in an answer
   (OpenAPI 3.1, 4.8.24.1).

Strategy. The schemas that an operation leads to stay in one document, to which each of its validators refers. A valid body costs parsing and one call; only an invalid one is looked at again for its faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import jsonschema_rs

from propylon.proxy.check.answer import AnswerCheck
from propylon.proxy.check.operation import LARGEST_BODY, MOST_TOLD, Media, OperationCheck, Parameter

__all__ = ["Contract", "Unusable", "for_answers", "for_requests"]

Json = Any
_DOCUMENT = "urn:propylon:document"
# A document is a tree of a few dozen levels; one with more is made to break readers.
_DEEPEST = 200
# References that lead to references.
_LONGEST_CHAIN = 16
# A byte of a body, held against one schema, takes ten nanoseconds: 20 ms in all, where a body is as bad as can be.
_MOST_WORK = 2_000_000
# The same for a body that nobody waits for: what is beside requests must hold them up less than they do one another.
_MOST_BESIDE = 500_000
_MASK = "the value"
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
# OpenAPI 3.1, 4.8.12.1: these are described elsewhere, and their parameters shall be ignored.
_IGNORED_HEADERS = frozenset({"accept", "content-type", "authorization"})


class Unusable(ValueError):
    """The document has something that cannot be checked; the message says what, for operators."""


class Contract:
    """A service's document, prepared for the checks of its operations; immutable."""

    def __init__(self, document: Mapping[str, Json], *, ready: bool = False) -> None:
        """Take a document that was checked and lifted to 3.1; `ready`: it went through `for_requests`. Raises Unusable."""
        self._document: Json = {**document} if ready else for_requests(document)
        try:
            self._registry = jsonschema_rs.Registry(
                [(_DOCUMENT, self._document)], draft=jsonschema_rs.Draft202012
            )
        except ValueError as error:
            raise Unusable(_first_line(error)) from error

    def operations(self) -> Iterator[tuple[str, str]]:
        """Yield path and method of each operation."""
        for path, item in self._document.get("paths", {}).items():
            yield from ((path, method.upper()) for method in item if method in _METHODS)

    def operation(self, path: str, method: str, weight: int = 1) -> OperationCheck | None:
        """Return the check of an operation; None if there is none. Raises Unusable.

        `weight` is how many schemas one value of a body may be held against.
        """
        above = f"/paths/{_escaped(path)}"
        item = self._document.get("paths", {}).get(path)
        operation = None if item is None else item.get(method.lower())
        if operation is None:
            return None
        here = f"{above}/{method.lower()}"
        written = {}
        for place, parameters in (
            (f"{above}/parameters", item.get("parameters", ())),
            (f"{here}/parameters", operation.get("parameters", ())),
        ):
            for at, parameter in enumerate(parameters):
                found, pointer = self._resolved(parameter, f"{place}/{at}")
                written[found.get("in"), found.get("name")] = (found, pointer)
        by_place: dict[str, list[Parameter]] = {"path": [], "query": [], "header": []}
        for (where, _), (found, pointer) in written.items():
            if where in by_place and (made := self._parameter(found, pointer)) is not None:
                by_place[where].append(made)
        needed, medias = self._body(operation.get("requestBody"), f"{here}/requestBody")
        return OperationCheck(
            path=tuple(by_place["path"]),
            query=tuple(by_place["query"]),
            headers=tuple(by_place["header"]),
            needs_body=needed,
            medias=medias,
            largest=min(LARGEST_BODY, _MOST_WORK // weight),
            told=MOST_TOLD // weight,
        )

    def answers(self, path: str, method: str, weight: int = 1) -> AnswerCheck:
        """Return the check of the answers of an operation that there is. Raises Unusable."""
        place = f"/paths/{_escaped(path)}/{method.lower()}/responses"
        found: dict[str, tuple[Media, ...]] = {}
        for status, written in self._at(place).items():
            answer, pointer = self._resolved(written, f"{place}/{status}")
            found[status] = self._medias(answer.get("content", {}), f"{pointer}/content")
        return AnswerCheck(
            found,
            largest=min(LARGEST_BODY, _MOST_BESIDE // weight),
            told=MOST_TOLD // weight,
        )

    def _parameter(self, written: Mapping[str, Json], pointer: str) -> Parameter | None:
        """Return a parameter; None for one of a form that is passed unchecked."""
        name, where = written["name"], written["in"]
        schema = written.get("schema")
        if where == "header" and name.lower() in _IGNORED_HEADERS:
            return None
        if schema is None:  # `content`: a text of another format
            return Parameter(
                name, bool(written.get("required")), _anything, several=False, split=""
            )
        style = written.get("style", "form" if where == "query" else "simple")
        kinds = self._kinds(schema, f"{pointer}/schema")
        if style not in {"form", "simple"} or "object" in kinds:
            return None
        explode = written.get("explode", style == "form")
        return Parameter(
            name.lower() if where == "header" else name,
            bool(written.get("required")),
            self._validator(f"{pointer}/schema").is_valid,
            several="array" in kinds,
            split="" if explode and where == "query" else ",",
        )

    def _kinds(self, schema: Json, pointer: str) -> frozenset[str]:
        """Return the types that a schema names, also in its alternatives."""
        schema, pointer = self._resolved(schema, pointer)
        if not isinstance(schema, Mapping):
            return frozenset()
        said = schema.get("type", ())
        kinds = {said} if isinstance(said, str) else set(said)
        for key in ("anyOf", "oneOf", "allOf"):
            for at, one in enumerate(schema.get(key, ())):
                kinds |= self._kinds(one, f"{pointer}/{key}/{at}")
        return frozenset(kinds)

    def _body(self, written: Json, pointer: str) -> tuple[bool, tuple[Media, ...]]:
        if written is None:
            return False, ()
        found, pointer = self._resolved(written, pointer)
        medias = self._medias(found.get("content", {}), f"{pointer}/content")
        return bool(found.get("required")), medias

    def _medias(self, content: Mapping[str, Json], pointer: str) -> tuple[Media, ...]:
        medias = []
        for kind, media in content.items():
            place = f"{pointer}/{_escaped(kind)}"
            is_json = _is_json(kind.lower()) and "schema" in media
            medias.append(
                Media(kind.lower(), self._validator(f"{place}/schema") if is_json else None)
            )
        # The most specific first: a `*/*` must not hide what is said of JSON.
        medias.sort(key=lambda media: media.kind.count("*"))
        return tuple(medias)

    def _validator(self, pointer: str) -> Any:
        try:
            return jsonschema_rs.Draft202012Validator(
                {"$ref": f"{_DOCUMENT}#{quote(pointer, safe='/~')}"},
                registry=self._registry,
                offline=True,
                mask=_MASK,
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except ValueError as error:
            msg = f"{pointer}: {_first_line(error)}"
            raise Unusable(msg) from error

    def _resolved(self, found: Json, pointer: str) -> tuple[Json, str]:
        """Follow the references of the document itself; return where they lead."""
        for _ in range(_LONGEST_CHAIN):
            if not isinstance(found, Mapping) or "$ref" not in found:
                return found, pointer
            pointer = unquote(str(found["$ref"]).removeprefix("#"))
            found = self._at(pointer)
        msg = f"{pointer}: a reference that leads round in a circle"
        raise Unusable(msg)

    def _at(self, pointer: str) -> Json:
        found: Json = self._document
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key)] if isinstance(found, Sequence) else found[key]
            except (LookupError, ValueError, TypeError) as error:
                msg = f"{pointer}: a reference that leads nowhere in the document"
                raise Unusable(msg) from error
        return found


def for_requests(value: Json) -> Any:
    """Return a copy in which no read-only property is required. Raises Unusable."""
    return _lenient(value, "readOnly", 0)


def for_answers(value: Json) -> Any:
    """Return a copy in which no write-only property is required. Raises Unusable."""
    return _lenient(value, "writeOnly", 0)


def _lenient(value: Json, flag: str, depth: int) -> Any:
    if depth > _DEEPEST:
        msg = f"the document is nested more than {_DEEPEST} levels deep"
        raise Unusable(msg)
    if isinstance(value, Mapping):
        made = {key: _lenient(one, flag, depth + 1) for key, one in value.items()}
        properties = made.get("properties")
        if isinstance(properties, dict) and isinstance(made.get("required"), list):
            made["required"] = [
                name
                for name in made["required"]
                if not _is_flagged(properties.get(str(name)), flag)
            ]
        return made
    if isinstance(value, list | tuple):
        return [_lenient(one, flag, depth + 1) for one in value]
    return value


def _is_flagged(schema: Json, flag: str) -> bool:
    return isinstance(schema, Mapping) and schema.get(flag) is True


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _anything(_: Json) -> bool:
    return True
