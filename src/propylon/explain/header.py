"""Fit a trace into a header of the answer: compact JSON in ASCII, 4 KiB at most. Pure.

Many clients and proxies take no more than 8 KiB of header lines, and the answer has others. What explains least goes first:
routes that lost, then the upstream's request, then the values of the stages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["LARGEST", "as_header", "dumped"]

LARGEST = 4096
_MOST_LOST = 3
_MOST_ATTEMPTS = 4
_REQUEST = 512  # characters
_TEXT = 96
_NAME = 64

Trace = dict[str, Any]


def dumped(trace: Trace) -> bytes:
    """Return compact JSON in ASCII, without control characters: JSON escapes them, and DEL as well."""
    return json.dumps(trace, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def as_header(trace: Trace) -> bytes:
    """Return the value of the header; with `"truncated":true` if something had to be left out."""
    value = dumped(trace)
    if len(value) <= LARGEST:
        return value
    for step in _STEPS:
        trace = {**step(trace), "truncated": True}
        value = dumped(trace)
        if len(value) <= LARGEST:
            return value
    return dumped(_least(trace))


def _fewer_losers(trace: Trace) -> Trace:
    return {**trace, "lost": trace["lost"][:_MOST_LOST]}


def _shorter_request(trace: Trace) -> Trace:
    upstream = trace["upstream"]
    if upstream is None:
        return trace
    return {**trace, "upstream": {**upstream, "request": upstream["request"][:_REQUEST]}}


def _without_losers(trace: Trace) -> Trace:
    return {**trace, "lost": []}


def _without_values(trace: Trace) -> Trace:
    stages = [{key: stage[key] for key in stage if key != "values"} for stage in trace["stages"]]
    return {**trace, "stages": stages}


def _without_request(trace: Trace) -> Trace:
    upstream = trace["upstream"]
    if upstream is None:
        return trace
    kept = {key: upstream[key] for key in upstream if key != "request"}
    return {**trace, "upstream": {**kept, "attempts": upstream["attempts"][-_MOST_ATTEMPTS:]}}


def _shorter_texts(trace: Trace) -> Trace:
    stages = [{**stage, "text": stage["text"][:_TEXT]} for stage in trace["stages"]]
    return {**trace, "stages": stages, "note": None, "circuit": None, "cors": None}


_STEPS: tuple[Callable[[Trace], Trace], ...] = (
    _fewer_losers,
    _shorter_request,
    _without_losers,
    _without_values,
    _without_request,
    _shorter_texts,
)


def _least(trace: Trace) -> Trace:
    """Return what fits always: the route's name, which a name in the file may make long, and the outcome."""
    route = trace["route"]
    return {
        "route": None if route is None else {"name": route["name"][:_NAME]},
        "status": trace["status"],
        "truncated": True,
    }
