"""Check an answer by what a document says of its operation, for operators to read. Pure.

What is said of an answer goes to the log. So it is made of the document's words alone: an answer's values are personal
data, and so are the names of its fields where the document leaves them open (`additionalProperties`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Final, NamedTuple

import orjson

from propylon.proxy.check import DRIFT, FITS, UNCHECKED, UNDOCUMENTED
from propylon.proxy.check.operation import Fault, Media

__all__ = ["AnswerCheck", "Received", "Verdict"]

# One answer tells enough with so many.
_MOST_FAULTS = 5
_LONGEST = 200
_GZIP = 16 + zlib.MAX_WBITS  # of zlib: with gzip's header and checksum, and no other
_OPEN: Final = "*"  # in a place: an index, or a name that the document does not have
_GOOD = range(200, 300)


class Received(NamedTuple):
    """An answer, as the service sent it; `body` None: too large to be looked at, or of a type that is not."""

    status: int
    content_type: str
    coding: str  # Content-Encoding, in lower case
    body: bytes | None


class Verdict(NamedTuple):
    """What was found, as `ANSWER_RESULTS` has it, and what does not fit."""

    result: int
    faults: Sequence[Fault] = ()


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """The check of one operation's answers; immutable.

    `statuses` has the types of a body by what the document writes: `200`, `2XX` or `default`. A body of more than `largest`
    bytes is not looked at, and of one with more than `told` bytes it is only said that it does not fit.
    """

    statuses: Mapping[str, tuple[Media, ...]]
    largest: int
    told: int

    def judge(self, answer: Received) -> Verdict:
        """Return what is to be said of an answer."""
        written = str(answer.status)
        medias = next(
            (
                self.statuses[one]
                for one in (written, f"{written[0]}XX", "default")
                if one in self.statuses
            ),
            None,
        )
        if medias is None:
            # Hardly a document lists each error of a service; that it has another good answer is news.
            if answer.status in _GOOD:
                return Verdict(DRIFT, (Fault("status", "is not in the document"),))
            return Verdict(UNDOCUMENTED)
        if not medias or answer.body == b"":
            return Verdict(
                FITS
            )  # the document does not say what it may be, or it is that of a HEAD
        kind = answer.content_type.partition(";")[0].strip().lower()
        media = next((one for one in medias if one.takes(kind)), None)
        if media is None:
            return Verdict(DRIFT, (Fault("header.content-type", "is not in the document"),))
        body = None if media.validator is None else _decoded(answer, self.largest)
        return Verdict(UNCHECKED) if body is None else self._of_body(media.validator, body)

    def _of_body(self, validator: Any, body: bytes) -> Verdict:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Verdict(DRIFT, (Fault("body", "is no JSON"),))
        if validator.is_valid(value):
            return Verdict(FITS)
        if len(body) > self.told:
            return Verdict(DRIFT, (Fault("body", "is not what the document says"),))
        return Verdict(DRIFT, _faults_of(validator.iter_errors(value)))


def _decoded(answer: Received, largest: int) -> bytes | None:
    """Return the body without its coding; None if it is too large, or of a coding that is not read."""
    body = answer.body
    if body is None or len(body) > largest:
        return None
    if answer.coding in {"", "identity"}:
        return body
    if answer.coding not in {"gzip", "x-gzip"}:
        return None
    unpacking = zlib.decompressobj(_GZIP)
    try:
        # A bomb ends here: no more than one byte too many is ever unpacked.
        plain = unpacking.decompress(body, largest + 1)
    except zlib.error:
        return None
    return plain if unpacking.eof and len(plain) <= largest else None


def _faults_of(errors: Iterable[Any]) -> list[Fault]:
    found = [
        Fault(_place(error)[:_LONGEST], f"does not fit `{error.kind.name}`")
        for error in islice(errors, _MOST_FAULTS)
    ]
    return [*dict.fromkeys(found)]


def _place(error: Any) -> str:
    """Return where a fault is: `body.lines.*.sku`, with the names that the document has."""
    way = [*map(str, error.evaluation_path)]
    known = {name for before, name in pairwise(way) if before == "properties"}
    parts = [one if isinstance(one, str) and one in known else _OPEN for one in error.instance_path]
    missing = getattr(error.kind, "property", None)  # of `required`: the document's word
    return ".".join(["body", *parts, *([missing] if isinstance(missing, str) else [])])
