"""Read a service's OpenAPI document: parse, check, lift to 3.1, rename. Pure.

The work is a generator that yields between two operations, so that it can be done beside requests.

Facts. The paths of a document are relative to its `servers`. But frameworks write there what they were told of the public
address (FastAPI's `root_path`), and a path of the service itself only if it is mounted there (Spring's context path). And a
service with a base path in its URL may write its paths with it (a router's prefix) or without it (a mount).

Rules.

1. The path of `servers` is part of the paths if the document itself was read from below it.
2. A base path is cut off if any path begins with it; else the paths are below it already.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import orjson

from propylon.documents.clean import SECTIONS, Cleaner, Names
from propylon.documents.document import BrokenDocument, Document, Operation
from propylon.documents.outline import Outline
from propylon.documents.security import other_schemes, security_of

__all__ = ["LARGEST", "Source", "digest_of", "read"]

LARGEST: Final = 5 * 1024 * 1024  # bytes
_MOST_OPERATIONS = 50_000
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_SUPPORTED = re.compile(r"3\.[01](\.\d{1,4})?(-.{0,20})?")
_LONGEST_PATH = 2048
# Characters of one operation or component: it is copied and searched in one go, in half a millisecond.
_LONGEST = 512 * 1024
_NAME_IN_PATH = re.compile(r"\{([^{}]+)\}")
_STATUS = re.compile(r"[1-5](\d\d|XX)|default")
_MOST_HOPS = 8
# What can stand in a segment of a path, decoded: no control byte, no slash of either kind, and no ? and #, behind which some
# upstreams read no path. At its begin nothing that some upstream cuts off, so that the segment would be empty: the gateway
# refuses these where they lead to another route (`wire.spellings`).
_NEVER = r"\u0000-\u001f\u007f-\u009f/\\?#"
SEGMENT: Final = rf"^[^{_NEVER}.; ][^{_NEVER}]*$"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document was read: the service, the base path of its URL, and the path behind it."""

    service: str
    path: str = "/openapi.json"
    base: str = ""


@dataclass(slots=True)
class _Reading:
    """A document that is being read."""

    raw: Mapping[str, Any]
    cleaner: Cleaner
    outline: Outline
    others: frozenset[str]  # schemes that no bearer token satisfies
    parameters: Mapping[str, Any]
    items: Mapping[str, Any] = field(default_factory=dict)


def digest_of(body: bytes) -> str:
    """Return what identifies the bytes of a document."""
    return hashlib.sha256(body).hexdigest()[:16]


def read(source: Source, body: bytes) -> Generator[None, None, Document]:
    """Return the document. Raises BrokenDocument."""
    raw = _parsed(body)
    yield
    version = _version(raw)
    components = _object(raw.get("components", {}), "components")
    sections = {name: _object(components.get(name, {}), f"components.{name}") for name in _ALL}
    names = Names(source.service, sections)
    cleaner = Cleaner(names, lift=version.startswith("3.0"))
    reading = _Reading(
        raw,
        cleaner,
        Outline(sections["schemas"]),
        frozenset(other_schemes(sections["securitySchemes"])),
        sections["parameters"],
        sections["pathItems"],
    )
    info = raw.get("info")
    info = info if isinstance(info, dict) else {}
    document = Document(
        source.service,
        title=str(info.get("title", ""))[:200],
        version=str(info.get("version", ""))[:100],
        openapi=version,
        digest=digest_of(body),
    )
    for section, kind in SECTIONS.items():
        for name, value in sections[section].items():
            new = names.renamed(section, name)
            copy = cleaner.object(kind, value, f"components.{section}.{name}")
            if isinstance(copy, dict) and "title" in copy:
                copy["title"] = (
                    new  # code generators name classes so, and two services have an `Item`
                )
            if copy is not None:
                text = _json(copy)
                if len(text) > _LONGEST:
                    # What refers to it stays right.
                    cleaner.note(f"components.{section}.{name}: is larger than {_LONGEST} bytes")
                    text = _json(_INSTEAD[section])
                document.components[f"{section}/{new}"] = text
            yield
    yield from _paths(document, reading, source)
    document.notes = cleaner.notes
    return document


_INSTEAD: Mapping[str, Any] = {
    "schemas": {},
    "responses": {"description": ""},
    "examples": {},
    "requestBodies": {"content": {}},
    "headers": {"schema": {}},
}
_ALL = (*SECTIONS, "parameters", "pathItems", "securitySchemes")


def _parsed(body: bytes) -> dict[str, Any]:
    if len(body) > LARGEST:
        msg = f"is larger than {LARGEST} bytes"
        raise BrokenDocument(msg)
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        begin = body[:64].lstrip().lower()
        if begin.startswith((b"<!doctype", b"<html", b"<")):
            msg = "is HTML, not JSON; write the path of the JSON document in `openapi`"
        else:
            msg = f"is not JSON: {error.msg} (line {error.lineno})"
        raise BrokenDocument(msg) from error
    return _object(raw, "the document")


def _version(raw: Mapping[str, Any]) -> str:
    if "swagger" in raw:
        msg = f"is of version {str(raw['swagger'])[:20]}; the gateway reads OpenAPI 3.0 and 3.1"
        raise BrokenDocument(msg)
    version = raw.get("openapi")
    if not isinstance(version, str) or not _SUPPORTED.fullmatch(version):
        said = "no version" if version is None else f"the version {str(version)[:20]}"
        msg = f"names {said}; the gateway reads OpenAPI 3.0 and 3.1"
        raise BrokenDocument(msg)
    return version


def _object(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"{at}: must be an object"
        raise BrokenDocument(msg)
    return value


# Paths


def _paths(document: Document, reading: _Reading, source: Source) -> Iterator[None]:
    paths = _object(reading.raw.get("paths", {}), "paths")
    prefix = _prefix(reading.raw, source)
    cut = source.base if any(_below(prefix + path, source.base) for path in paths) else ""
    seen: set[object] = set()
    for path, item in paths.items():
        if not path.startswith("/") or len(path) > _LONGEST_PATH or not path.isprintable():
            reading.cleaner.note(f"paths.{path[:100]!r}: is no path")
            continue
        full = (prefix + path)[len(cut) :] or "/"
        names = _NAME_IN_PATH.findall(path)
        if len(set(names)) < len(names):
            reading.cleaner.note(f"paths.{path}: names a parameter twice")
            continue
        if cut and not _below(prefix + path, cut):
            reading.cleaner.note(f"paths.{path}: is not below the base path {cut}")
            continue
        yield from _item(document, reading, full, _resolved_item(reading, item, path), seen)


def _prefix(raw: Mapping[str, Any], source: Source) -> str:
    """Return the path of `servers`, if the document was read from below it."""
    servers = raw.get("servers")
    first = servers[0] if isinstance(servers, list) and servers else None
    url = first.get("url") if isinstance(first, dict) else None
    if not isinstance(url, str):
        return ""
    try:
        path = unquote(urlsplit(url).path).rstrip("/")
    except ValueError:
        return ""
    return path if path and _below(source.base + source.path, path) else ""


def _below(path: str, base: str) -> bool:
    return bool(base) and (path == base or path.startswith(f"{base}/"))


def _resolved_item(reading: _Reading, written: Any, path: str) -> dict[str, Any]:
    item: dict[str, Any] = _object(written, f"paths.{path}")
    target = item.get("$ref")
    if target is None:
        return item
    found = reading.items.get(str(target).removeprefix("#/components/pathItems/"))
    if not str(target).startswith("#/components/pathItems/") or not isinstance(found, dict):
        reading.cleaner.note(f"paths.{path}: $ref {target} is not followed")
        return {}
    return dict(found)


def _item(
    document: Document,
    reading: _Reading,
    path: str,
    item: Mapping[str, Any],
    seen: set[object],
) -> Iterator[None]:
    for method in _METHODS:
        if method not in item:
            continue
        at = f"paths.{path}.{method}"
        made = _operation(reading, method, path, item, _object(item[method], at), at)
        if _size(made) > _LONGEST:
            reading.cleaner.note(f"{at}: is larger than {_LONGEST} bytes")
            continue
        if made.key in seen:
            reading.cleaner.note(f"{at}: another path is the same but for its parameters' names")
            continue
        seen.add(made.key)
        document.add(made)
        if len(document.operations) > _MOST_OPERATIONS:
            msg = f"has more than {_MOST_OPERATIONS} operations"
            raise BrokenDocument(msg)
        yield


def _operation(
    reading: _Reading,
    method: str,
    path: str,
    item: Mapping[str, Any],
    written: dict[str, Any],
    at: str,
) -> Operation:
    cleaner = reading.cleaner
    parameters = _parameters(reading, item, written, at)
    names = _NAME_IN_PATH.findall(path)
    responses = cleaner.map("response", written.get("responses", {}), f"{at}.responses")
    responses = {status: one for status, one in responses.items() if _STATUS.fullmatch(status)}
    body = written.get("requestBody")
    body = None if body is None else cleaner.object("body", body, f"{at}.requestBody")
    # A body of GET or DELETE has no defined meaning (RFC 9110, 9.3.1), and the gateway is careful with it.
    members = cleaner.object("operation", written, at)
    return Operation(
        method=method.upper(),
        segments=tuple(path.strip("/").split("/")) if path.strip("/") else (),
        id=_said(written, "operationId"),
        summary=_said(written, "summary"),
        description=members.pop("description", ""),
        security=security_of(
            written.get("security", reading.raw.get("security", [])), reading.others, at
        ),
        path_parameters={name: _path_parameter(name, parameters) for name in names},
        parameters=tuple(_json(one) for one in parameters.values() if one["in"] != "path"),
        body="" if body is None else _json(body),
        members=_json(members)[1:-1],
        responses={status: _json(one) for status, one in responses.items()},
        required=reading.outline.required(parameters.values(), written.get("requestBody")),
        returned=reading.outline.returned(_raw_responses(written)),
    )


def _size(made: Operation) -> int:
    texts = (*made.parameters, *made.path_parameters.values(), *made.responses.values())
    return len(made.description) + len(made.body) + len(made.members) + sum(map(len, texts))


def _raw_responses(written: Mapping[str, Any]) -> Mapping[str, Any]:
    responses = written.get("responses")
    return responses if isinstance(responses, dict) else {}


def _said(written: Mapping[str, Any], name: str) -> str:
    value = written.get(name)
    return value[:300] if isinstance(value, str) else ""


def _parameters(
    reading: _Reading, item: Mapping[str, Any], written: Mapping[str, Any], at: str
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the parameters of the operation and of its path: the operation's win."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for holder in (item, written):
        listed = holder.get("parameters", [])
        if not isinstance(listed, list):
            msg = f"{at}.parameters: must be a list"
            raise BrokenDocument(msg)
        for one in listed:
            parameter = _parameter(reading, one, f"{at}.parameters")
            if parameter is not None:
                found[parameter["in"], parameter["name"]] = parameter
    return found


def _parameter(reading: _Reading, written: Any, at: str) -> dict[str, Any] | None:
    for _ in range(_MOST_HOPS):
        target = written.get("$ref") if isinstance(written, dict) else None
        if target is None:
            break
        name = str(target).removeprefix("#/components/parameters/")
        written = reading.parameters.get(name) if name != str(target) else None
        if written is None:
            reading.cleaner.note(f"{at}: $ref {target} is not followed")
            return None
    else:
        msg = f"{at}: $ref goes round in a circle"
        raise BrokenDocument(msg)
    copy = reading.cleaner.object("parameter", written, at)
    if not isinstance(copy, dict) or not copy.get("name") or "in" not in copy:
        msg = f"{at}: a parameter has no name or no place"
        raise BrokenDocument(msg)
    return copy


def _path_parameter(name: str, parameters: Mapping[tuple[str, str], dict[str, Any]]) -> str:
    """Return the members of a parameter of the path: what its value can be, and an explanation."""
    known = dict(parameters.get(("path", name)) or {"schema": {"type": "string"}})
    for member in ("name", "in", "required"):
        known.pop(member, None)
    known.setdefault("description", f"The segment `{name}` of the path.")
    schema = known.get("schema")
    if (
        isinstance(schema, dict)
        and schema.get("type") == "string"
        and not schema.keys() & {"pattern", "enum", "const", "format"}
    ):
        known["schema"] = {**schema, "pattern": SEGMENT}
    return _json(known)[1:-1]


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        msg = f"cannot be written as JSON again: {error}"
        raise BrokenDocument(msg) from error
