"""CHECK: compile an operation of a service's OpenAPI document (3.1) into a check of requests. Pure.

    document ──► Contract ──► operation(path, method) ──► head(path, query, headers) and body(type, bytes): what does not fit

Facts. The document comes from the service: its references may lead anywhere, and its patterns may be made to take for ever.
The request comes from the client. Both are hostile here.

Rules.

1. A request that the document admits is never refused. Where the document leaves open how a text is to be read, every
   reading counts: `7` is a number and a text.
2. No reference leaves the document, and patterns are matched in linear time. A schema that needs more is `Unusable`.
3. What is said of a request names the place and the rule, and never the value: it may be a password.
4. Properties that are `readOnly` need not be in a request, whatever `required` says (OpenAPI 3.1, 4.8.24.1).

Strategy. All schemas stay in the one document, to which each validator refers: a document of 5 MB is not copied for each of
its operations. A valid body costs parsing and one call; only an invalid one is looked at again for its faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

import jsonschema_rs
import orjson

from propylon.errors import InvalidRequest

__all__ = ["Contract", "Fault", "OperationCheck", "Unusable"]

Json = Any
_DOCUMENT = "urn:propylon:document"
# A document is a tree of a few dozen levels; one with more is made to break readers.
_DEEPEST = 200
# References that lead to references.
_LONGEST_CHAIN = 16
# Of one request: a client learns enough from so many.
_MOST_FAULTS = 20
_MASK = "the value"
# JSON's own grammar (RFC 8259, 6), bounded: what `float` and `int` take for ever is an attack.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,30})")
_WORDS: Mapping[str, Json] = {"true": True, "false": False, "null": None}
# Swagger UI and many clients send these for a boolean.
_BITS: Mapping[str, bool] = {"1": True, "0": False}
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
# OpenAPI 3.1, 4.8.12.1: these are described elsewhere, and their parameters shall be ignored.
_IGNORED_HEADERS = frozenset({"accept", "content-type", "authorization"})


class Unusable(ValueError):
    """The document has something that cannot be checked; the message says what, for operators."""


class Fault(NamedTuple):
    """What does not fit: where, as `query.limit` or `body.items.0.sku`, and why."""

    place: str
    why: str


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    required: bool
    fits: Callable[[Json], bool]
    several: bool  # an array
    split: str  # between the members of an array; empty: each is sent by itself


class Contract:
    """A service's document, prepared for the checks of its operations; immutable."""

    def __init__(self, document: Mapping[str, Json]) -> None:
        """Take a document that was checked and lifted to 3.1. Raises Unusable."""
        self._document = _for_requests(document)
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

    def operation(self, path: str, method: str) -> OperationCheck | None:
        """Return the check of an operation; None if there is none. Raises Unusable."""
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
        by_place: dict[str, list[_Parameter]] = {"path": [], "query": [], "header": []}
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
        )

    def _parameter(self, written: Mapping[str, Json], pointer: str) -> _Parameter | None:
        """Return a parameter; None for one of a form that is passed unchecked."""
        name, where = written["name"], written["in"]
        schema = written.get("schema")
        if where == "header" and name.lower() in _IGNORED_HEADERS:
            return None
        if schema is None:  # `content`: a text of another format
            return _Parameter(
                name, bool(written.get("required")), _anything, several=False, split=""
            )
        style = written.get("style", "form" if where == "query" else "simple")
        kinds = self._kinds(schema, f"{pointer}/schema")
        if style not in {"form", "simple"} or "object" in kinds:
            return None
        explode = written.get("explode", style == "form")
        return _Parameter(
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

    def _body(self, written: Json, pointer: str) -> tuple[bool, tuple[_Media, ...]]:
        if written is None:
            return False, ()
        found, pointer = self._resolved(written, pointer)
        medias = []
        for kind, media in found.get("content", {}).items():
            place = f"{pointer}/content/{_escaped(kind)}"
            is_json = _is_json(kind.lower()) and "schema" in media
            medias.append(
                _Media(kind.lower(), self._validator(f"{place}/schema") if is_json else None)
            )
        # The most specific first: a `*/*` must not hide what is said of JSON.
        medias.sort(key=lambda media: media.kind.count("*"))
        return bool(found.get("required")), tuple(medias)

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


@dataclass(frozen=True, slots=True)
class _Media:
    kind: str
    validator: Any  # None: passes as it is

    def takes(self, kind: str) -> bool:
        """Tell whether a type falls under this one, which may be a range."""
        if self.kind in {kind, "*/*"}:
            return True
        return self.kind.endswith("/*") and kind.startswith(self.kind[:-1])


@dataclass(frozen=True, slots=True)
class OperationCheck:
    """The check of one operation; immutable."""

    path: tuple[_Parameter, ...] = ()
    query: tuple[_Parameter, ...] = ()
    headers: tuple[_Parameter, ...] = ()
    needs_body: bool = False
    medias: tuple[_Media, ...] = ()

    def head(
        self,
        path: Mapping[str, str] = {},
        query: bytes = b"",
        headers: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> list[Fault]:
        """Return what does not fit of a head: decoded segments by name, the query without `?`, values of a header."""
        faults: list[Fault] = []
        for one in self.path:
            sent = path.get(one.name)
            _judge(one, "path", () if sent is None else (sent,), faults)
        if self.query:
            found: dict[str, list[str]] = {}
            for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
                found.setdefault(name, []).append(value)
            for one in self.query:
                _judge(one, "query", found.get(one.name, ()), faults)
        for one in self.headers:
            _judge(one, "header", headers(one.name), faults)
        return faults

    def body(self, content_type: str, body: bytes) -> Sequence[Fault]:
        """Return what does not fit of a body. Raises InvalidRequest (400) where it should be JSON and is none."""
        if not body:
            return [Fault("body", "is missing")] if self.needs_body else ()
        if not self.medias:
            return ()  # the document does not say what it may be
        kind = content_type.partition(";")[0].strip().lower()
        media = next((media for media in self.medias if media.takes(kind)), None)
        if media is None:
            known = ", ".join(media.kind for media in self.medias)
            return [Fault("header.content-type", f"must be {known}")]
        validator = media.validator
        if validator is None:
            return ()
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            msg = "The body is no JSON"
            raise InvalidRequest(msg, details={"fields": {"body": str(error)}}) from error
        return () if validator.is_valid(value) else _faults_of(validator.iter_errors(value))


def _judge(one: _Parameter, where: str, sent: Sequence[str], faults: list[Fault]) -> None:
    place = f"{where}.{one.name}"
    if not sent:
        if one.required:
            faults.append(Fault(place, "is missing"))
    elif not _fits(one, sent):
        faults.append(Fault(place, "is not what the document asks for"))


def _fits(one: _Parameter, sent: Sequence[str]) -> bool:
    if one.several and any(map(one.fits, _lists(one, sent))):
        return True
    return len(sent) == 1 and any(map(one.fits, _readings(sent[0])))


def _lists(one: _Parameter, sent: Sequence[str]) -> Iterator[list[Json]]:
    """Yield the arrays that texts may mean: of all their members the likeliest reading, or the texts themselves."""
    texts = sent[0].split(one.split) if one.split and len(sent) == 1 else list(sent)
    yield [next(_readings(text)) for text in texts]
    yield texts


def _readings(text: str) -> Iterator[Json]:
    """Yield the values that a text may mean, the most specific first."""
    if text in _WORDS:
        yield _WORDS[text]
    if _INTEGER.fullmatch(text):
        yield int(text)
    elif _NUMBER.fullmatch(text):
        yield float(text)
    if text in _BITS:
        yield _BITS[text]
    yield text


def _faults_of(errors: Iterable[Any]) -> list[Fault]:
    return [
        Fault(".".join(["body", *map(str, error.instance_path)]), error.message)
        for error in islice(errors, _MOST_FAULTS)
    ]


def _for_requests(value: Json, depth: int = 0) -> Any:
    """Return a copy in which no read-only property is required. Raises Unusable."""
    if depth > _DEEPEST:
        msg = f"the document is nested more than {_DEEPEST} levels deep"
        raise Unusable(msg)
    if isinstance(value, Mapping):
        made = {key: _for_requests(one, depth + 1) for key, one in value.items()}
        properties = made.get("properties")
        if isinstance(properties, dict) and isinstance(made.get("required"), list):
            made["required"] = [
                name for name in made["required"] if not _is_read_only(properties.get(str(name)))
            ]
        return made
    if isinstance(value, list | tuple):
        return [_for_requests(one, depth + 1) for one in value]
    return value


def _is_read_only(schema: Json) -> bool:
    return isinstance(schema, Mapping) and schema.get("readOnly") is True


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def _anything(_: Json) -> bool:
    return True


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
