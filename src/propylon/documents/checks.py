"""Compile the checks of requests and answers from a document. Pure.

The work is a generator that yields often, because a validator is compiled in one go. So what goes into one is bounded: an
operation that leads to more schemas than `_MOST_TEXT` is not checked, and neither is one whose schemas multiply.

Requests are all checked, so that is compiled for all operations when a document is read. Of answers a few are looked at:
the check of an operation is compiled when there is one of its answers to look at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from typing import Any

import orjson

from propylon.documents.document import Checks, Document, Operation
from propylon.documents.published import REFERENCE
from propylon.documents.read import SEGMENT
from propylon.documents.weight import MOST, Weights
from propylon.proxy.check.answer import AnswerCheck
from propylon.proxy.check.contract import Contract, Unusable, for_answers, for_requests
from propylon.proxy.check.operation import OperationCheck

__all__ = ["compile_answers", "compile_checks"]

Json = Any
# Characters: a component is taken up, and an operation compiled, in five milliseconds at the most.
_MOST_TEXT = 128 * 1024
# Each takes a fifth of a millisecond to compile: a class of Unicode has hundreds of ranges.
_MOST_CLASSES = 60
# `\p` and `\P` in a pattern, as JSON writes a backslash.
_CLASS, _NEGATED = "\\\\p", "\\\\P"
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_REPEATED = re.compile(r"\{(\d{1,6}),?(\d{0,6})\}")
_SECTIONS = frozenset({"schemas", "requestBodies"})
_ANSWERS = frozenset({"schemas", "responses"})
_SCHEMAS = "schemas/"
_PATH = "/operation"
_MOST_NOTES = 5


def compile_checks(document: Document) -> Generator[None, None, tuple[Checks, tuple[str, ...]]]:
    """Return the checks of all operations, and what operators should know of those that have none."""
    compiler = _Compiler(document, _SECTIONS, for_requests)
    yield from compiler.prepare(document.components)
    checks: dict[Any, OperationCheck | None] = {}
    notes: list[str] = []
    for operation in document.operations:
        try:
            checks[operation.key] = compiler.compiled(operation)
        except Unusable as error:
            checks[operation.key] = None
            notes.append(f"{operation.method} {operation.path}: {error}")
        yield
    more = len(notes) - _MOST_NOTES
    return checks, (*notes[:_MOST_NOTES], *((f"and {more} more",) if more > 0 else ()))


def compile_answers(
    document: Document, operation: Operation
) -> Generator[None, None, AnswerCheck | None]:
    """Return the check of an operation's answers; None if they cannot be checked."""
    compiler = _Compiler(document, _ANSWERS, for_answers)
    try:
        yield from compiler.prepare(_led_to(document, operation.responses.values()))
        return compiler.compiled_answers(operation)
    except Unusable:
        return None


def _led_to(document: Document, texts: Iterable[str]) -> Iterator[str]:
    """Yield the components that texts lead to. Raises Unusable if they are too large."""
    seen: set[str] = set()
    ahead = [*texts]
    size = 0
    while ahead:
        text = ahead.pop()
        size += len(text)
        if size > _MOST_TEXT:
            raise _too_large()
        for name in REFERENCE.findall(text):
            if name not in seen and name in document.components:
                seen.add(name)
                ahead.append(document.components[name])
                yield name


def _too_large() -> Unusable:
    return Unusable(f"it leads to schemas of more than {_MOST_TEXT} characters")


class _Compiler:
    """What the operations of a document have in common: the components of some sections."""

    def __init__(
        self, document: Document, sections: frozenset[str], lenient: Callable[[Json], Json]
    ) -> None:
        self._document = document
        self._sections = sections
        self._lenient = lenient
        self._ready: dict[str, Json] = {}
        self._led: dict[str, frozenset[str]] = {}  # by component, those that it refers to
        self._slow: dict[str, int] = {}  # by component, what its patterns make of `\p`
        self._weights = Weights({})

    def prepare(self, names: Iterable[str]) -> Generator[None, None, None]:
        """Take up these components."""
        for name in names:
            text = self._document.components[name]
            if name.partition("/")[0] in self._sections and len(text) <= _MOST_TEXT:
                self._ready[name] = self._lenient(orjson.loads(text))
                self._led[name] = frozenset(REFERENCE.findall(text))
                self._slow[name] = _slowness(text)
                yield
        self._weights = Weights(
            {
                name.removeprefix(_SCHEMAS): one
                for name, one in self._ready.items()
                if name.startswith(_SCHEMAS)
            }
        )
        yield from self._weights.settle()

    def compiled(self, operation: Operation) -> OperationCheck:
        """Return the check of an operation. Raises Unusable."""
        texts = (*operation.path_parameters.values(), *operation.parameters, operation.body)
        components = self._reached(texts)
        written = _written(operation)
        weight = self._weight(_schemas_of(written, self._ready))
        method = operation.method.lower()
        contract = Contract(
            {"paths": {_PATH: {method: written}}, "components": components}, ready=True
        )
        made = contract.operation(_PATH, method, weight)
        if made is None:
            msg = "it is of no method that is checked"
            raise Unusable(msg)
        return made

    def compiled_answers(self, operation: Operation) -> AnswerCheck:
        """Return the check of an operation's answers. Raises Unusable."""
        components = self._reached(operation.responses.values())
        written = {
            status: self._lenient(orjson.loads(text))
            for status, text in operation.responses.items()
        }
        schemas = (
            media.get("schema")
            for answer in written.values()
            for media in _of(answer, self._ready).get("content", {}).values()
        )
        weight = self._weight(schemas)
        method = operation.method.lower()
        item = {method: {"responses": written}}
        contract = Contract({"paths": {_PATH: item}, "components": components}, ready=True)
        return contract.answers(_PATH, method, weight)

    def _weight(self, schemas: Iterable[Json]) -> int:
        """Return how many schemas a value may be held against. Raises Unusable."""
        weight = max(map(self._weights.of, schemas), default=1)
        if weight > MOST:
            msg = "its schemas are too large, or go round in circles that multiply"
            raise Unusable(msg)
        return max(weight, 1)

    def _reached(self, texts: Collection[str]) -> dict[str, dict[str, Json]]:
        """Return the components that texts lead to, by section and name. Raises Unusable."""
        found: dict[str, dict[str, Json]] = {}
        seen: set[str] = set()
        size = sum(map(len, texts))
        if size > _MOST_TEXT:
            raise _too_large()
        slow = sum(map(_slowness, texts))
        ahead = [name for text in texts for name in REFERENCE.findall(text)]
        while ahead:
            name = ahead.pop()
            if name in seen or name not in self._ready:
                continue
            seen.add(name)
            size += len(self._document.components[name])
            slow += self._slow[name]
            section, _, last = name.partition("/")
            found.setdefault(section, {})[last] = self._ready[name]
            ahead.extend(self._led[name])
        if size > _MOST_TEXT:
            raise _too_large()
        if slow > _MOST_CLASSES:
            msg = r"its patterns repeat \p{…} too often to be compiled"
            raise Unusable(msg)
        return found


def _schemas_of(written: Mapping[str, Json], ready: Mapping[str, Json]) -> Iterator[Json]:
    for one in written["parameters"]:
        yield one.get("schema")
    for media in _of(written.get("requestBody", {}), ready).get("content", {}).values():
        yield media.get("schema")


def _of(written: Json, ready: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a body or an answer, also where it is one of the components."""
    found: Mapping[str, Json] = written
    if "$ref" in written:
        found = ready.get(written["$ref"].removeprefix("#/components/"), {})
    return found


def _slowness(text: str) -> int:
    """Return how many Unicode classes the patterns in a JSON text come to, once their repetitions are written out."""
    text = text.replace(_NEGATED, _CLASS)
    if _CLASS not in text:
        return 0
    found = 0
    for pattern in _STRING.findall(text):
        often = pattern.count(_CLASS)
        for least, most in _REPEATED.findall(pattern) if often else ():
            often = min(often * max(int(most or least), 1), _MOST_CLASSES + 1)
        found += often
    return found


def _written(operation: Operation) -> dict[str, Json]:
    """Return the operation as its document has it, as far as requests go."""
    path = []
    for name, members in operation.path_parameters.items():
        one = {**orjson.loads(f"{{{members}}}"), "name": name, "in": "path", "required": True}
        schema = one.get("schema")
        if isinstance(schema, dict) and schema.get("pattern") == SEGMENT:
            # For readers only: the service has not said this, and may take more.
            one["schema"] = {key: value for key, value in schema.items() if key != "pattern"}
        path.append(one)
    written: dict[str, Json] = {"parameters": [*path, *map(orjson.loads, operation.parameters)]}
    if operation.body:
        written["requestBody"] = for_requests(orjson.loads(operation.body))
    return written
