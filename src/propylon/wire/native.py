"""Find the compiled part, `_heads.c`, which reads nearly all heads before llhttp is asked.

It may only accept: what it returns equals what `request` and `response` would have read, and None means that these judge.
So the gateway is the same without it, where there was no compiler, and slower.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

from propylon.wire.headers import Special

__all__ = ["RequestParts", "implementation", "problem", "request", "response"]

RequestParts = tuple[str, bytes, bytes, bytes, bytes, Special]
_ResponseParts = tuple[int, bytes, bytes, Special]
_INTERFACE = 1


def _declined(_: bytes) -> None:
    """Leave every head to llhttp."""


# Method, line, path, query, block and special lines of the head of a request; None: llhttp is to judge it.
request: Callable[[bytes], RequestParts | None] = _declined
# Status, status line behind the version, block and special lines of the head of an answer.
response: Callable[[bytes], _ResponseParts | None] = _declined

implementation = "pure"  # or "native"
problem = ""  # why the compiled part is there and cannot be used

# PROPYLON_PURE=1 is for whoever suspects the compiled part; the same variable keeps an install from compiling it.
if os.environ.get("PROPYLON_PURE", "0") in ("", "0"):
    try:
        from propylon.wire import _heads
    except ImportError as error:
        # That there is none is no problem: the install found no compiler.
        if find_spec("propylon.wire._heads") is not None:
            problem = str(error)
    else:
        if _heads.INTERFACE == _INTERFACE:
            request, response, implementation = _heads.request, _heads.response, "native"
        else:
            problem = "it was compiled from another version of its source: install again"
