"""Say what the text of a parameter may mean: the document leaves open how it is to be read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["lists", "readings"]

Json = Any
# JSON's own grammar (RFC 8259, 6), bounded: what `float` and `int` take for ever is an attack.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,30})")
_WORDS: Mapping[str, Json] = {"true": True, "false": False, "null": None}
# Swagger UI and many clients send these for a boolean.
_BITS: Mapping[str, bool] = {"1": True, "0": False}


def lists(split: str, sent: Sequence[str]) -> Iterator[list[Json]]:
    """Yield the arrays that texts may mean: of all their members the likeliest reading, or the texts themselves."""
    texts = sent[0].split(split) if split and len(sent) == 1 else list(sent)
    yield [next(readings(text)) for text in texts]
    yield texts


def readings(text: str) -> Iterator[Json]:
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
