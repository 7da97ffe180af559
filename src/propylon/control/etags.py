"""Let clients ask for what has changed, and change only what they have seen: ETag, If-None-Match, If-Match (RFC 9110, 13)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Annotated, Any

import orjson
from fastapi import Header, Response
from pydantic import BaseModel

from propylon.control.schemas import Envelope
from propylon.errors import PreconditionFailed
from propylon.wire.grammar import ENTITY_TAG_TEXT

__all__ = [
    "CHANGED",
    "UNCHANGED",
    "IfMatch",
    "IfNoneMatch",
    "check_match",
    "etag_of",
    "fits",
    "tagged",
]

_BYTES = 12  # of the hash: two states of one resource never share it

IfMatch = Annotated[
    list[str] | None,
    Header(
        alias="If-Match",
        description="The `ETag` of what you have read. If it has changed since, nothing happens, and the answer is 412.",
        examples=[['"dGhlIHRhZyBvZiBpdA"']],
    ),
]
IfNoneMatch = Annotated[
    list[str] | None,
    Header(
        alias="If-None-Match",
        description="The `ETag` of what you have. If nothing has changed since, the answer is 304 and has no body.",
        examples=[['"dGhlIHRhZyBvZiBpdA"']],
    ),
]
UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "What `If-None-Match` names is what there is."}
}
CHANGED: dict[int | str, dict[str, Any]] = {
    412: {"model": Envelope, "description": "What `If-Match` names is not what there is any more."}
}


def etag_of(value: BaseModel, without: Any = None) -> str:
    """Return the tag of what a client is shown.

    `without` are fields that may change and make no other state of it, as pydantic's `exclude` has them.
    """
    shown = value.model_dump(mode="json", exclude=without)
    digest = hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).digest()
    return f'"{base64.urlsafe_b64encode(digest[:_BYTES]).decode("ascii")}"'


def tagged(response: Response, sent: list[str] | None, tag: str) -> Response | None:
    """Tag an answer; return a 304 in its place where the client has it already (13.1.2)."""
    response.headers["ETag"] = tag
    known = _tags(sent)
    # Weak comparison (8.8.3.2): a proxy that compresses answers makes a tag weak.
    if known and ("*" in known or tag in {one.removeprefix("W/") for one in known}):
        return Response(status_code=304, headers=dict(response.headers))
    return None


def fits(sent: list[str] | None, tag: str) -> bool:
    """Tell whether a tag is one of If-Match, or there is no such header (13.1.1). The comparison is strong."""
    return sent is None or not {"*", tag}.isdisjoint(_tags(sent))


def check_match(sent: list[str] | None, tag: str) -> None:
    """Raise PreconditionFailed for a tag that If-Match does not name."""
    if not fits(sent, tag):
        msg = "It was changed meanwhile: read it again"
        raise PreconditionFailed(msg)


def _tags(sent: Iterable[str] | None) -> list[str]:
    """Return the tags of all lines. What is no tag matches nothing, which is the safe reading of both headers."""
    text = ",".join(sent or ())
    return ["*"] if text.strip() == "*" else ENTITY_TAG_TEXT.findall(text)
