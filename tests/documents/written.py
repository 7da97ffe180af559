"""Documents as services write them, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator

from propylon.documents.document import Document, Operation
from propylon.documents.exposure import Exposure
from propylon.documents.merge import Merged, Scheme
from propylon.documents.publish import Mismatch, error_components, publish
from propylon.documents.published import Published
from propylon.documents.read import Source, read
from propylon.loop.slices import at_once

ITEM = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
    "required": ["id", "name"],
}
ENVELOPE = {"type": "object", "properties": {"error": {"type": "object"}}}
GOOD = {"200": {"description": "good"}}


def returning(schema: Any) -> dict[str, Any]:
    """The answers of an operation that returns JSON."""
    content = {"application/json": {"schema": schema}}
    return {"200": {"description": "good", "content": content}}


def written(
    paths: Mapping[str, Any] | None = None, *, version: str = "3.1.0", **more: Any
) -> dict[str, Any]:
    """A document with these paths."""
    paths = {"/items": {"get": {"responses": GOOD}}} if paths is None else paths
    return {"openapi": version, "info": {"title": "Orders", "version": "1"}, "paths": paths, **more}


def document(
    raw: Any, service: str = "orders", *, path: str = "/openapi.json", base: str = ""
) -> Document:
    """What the gateway reads."""
    body = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return at_once(read(Source(service, path, base), body))


def operation(raw: Any, service: str = "orders") -> Operation:
    """The only operation of a document."""
    (one,) = document(raw, service).operations
    return one


def anywhere(exposures: tuple[Exposure, ...]) -> Any:
    """A table in which the longest route wins."""

    def chosen(host: str, path: bytes, method: str) -> str | None:
        segments = path.decode().strip("/").split("/")
        fitting = [one for one in exposures if _fits(one, segments)]
        return max(fitting, key=lambda one: len(one.path)).name if fitting else None

    return chosen


def _fits(exposure: Exposure, segments: list[str]) -> bool:
    front = segments[: len(exposure.path)]
    return len(front) == len(exposure.path) and all(
        mine.startswith("{") or mine == theirs
        for mine, theirs in zip(exposure.path, front, strict=True)
    )


def published(one: Document, *exposures: Exposure) -> Iterator[Published | Mismatch]:
    """What these routes show of a document, and where scopes differ."""
    for found in publish(one, exposures, anywhere(exposures)):
        if found is not None:
            yield found


def merged(*parts: tuple[Document, Exposure], **options: Any) -> dict[str, Any]:
    """The merged document, which the independent validator finds no fault with."""
    shown = [
        found
        for one, exposure in parts
        for found in published(one, exposure)
        if isinstance(found, Published)
    ]
    components = {"schemas/Envelope": json.dumps(ENVELOPE), **error_components("schemas/Envelope")}
    for one, _ in parts:
        components |= one.components
    whole = Merged(
        {"title": "Gateway", "version": "1"},
        (Scheme("bearer", {"type": "http", "scheme": "bearer"}),),
        tuple(shown),
        components,
    )
    text = b"".join(at_once(whole.text(options.get("permits"), options.get("root", ""))))
    found: dict[str, Any] = json.loads(text)
    check(found)
    return found


def check(found: dict[str, Any]) -> None:
    """Have an independent validator look for faults."""
    faults = [
        f"{[*fault.absolute_path]}: {fault.message[:300]}"
        for fault in OpenAPIV31SpecValidator(found).iter_errors()
    ]
    assert faults == []
