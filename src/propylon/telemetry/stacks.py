"""Describe where a thread is: the frames of its stack, without a value of any variable.

The name of a block is that of the team's code: the outermost function that is neither ours nor of the libraries that call it.
"""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

__all__ = ["Stack", "stack_of"]

_OURS = str(Path(__file__).parent.parent) + "/"
_STANDARD = tuple(
    {str(Path(sysconfig.get_paths()[name])) + "/" for name in ("stdlib", "platstdlib")}
)
# Libraries that call a team's functions.
_CALLERS = (
    "/fastapi/",
    "/starlette/",
    "/anyio/",
    "/uvicorn/",
    "/uvloop/",
    "/gunicorn/",
    "/pydantic/",
)
_SITE = "/site-packages/"
_LOOPS = ("/asyncio/runners.py", "/asyncio/base_events.py")
# Of the frames next to the call that takes so long.
_MOST_FRAMES = 24
_DEEPEST = 400
_LONGEST = 160  # characters of a name
_KINDS = {"control/policies.py": "policy", "upstream/inprocess.py": "endpoint"}
_GATEWAY = "gateway"
_Frame = tuple[str, int, str]  # file, line, function


@dataclass(frozen=True, slots=True)
class Stack:
    """Where a thread is: `where` in words, and the frames from the outermost to the innermost, a line each.

    `where` is `policy NAME`, `endpoint NAME`, or `code NAME` of a team; `gateway` where no code of a team is on the stack.
    """

    where: str
    frames: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether no code of a team is on the stack."""
        return self.where == _GATEWAY

    def __str__(self) -> str:
        return "\n".join(self.frames)


def stack_of(thread: int) -> Stack:
    """Return where a thread is, by its identity."""
    return _described(sys._current_frames().get(thread))  # noqa: SLF001 — there is no other way


def _described(frame: FrameType | None) -> Stack:
    """Describe a stack from its innermost frame."""
    found: list[_Frame] = []
    while frame is not None and len(found) < _DEEPEST:
        code = frame.f_code
        found.append((code.co_filename, frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    inside = _inside(found[::-1])
    lines = tuple(f"{file}:{line} {name}"[-2 * _LONGEST :] for file, line, name in inside)
    return Stack(_where(inside), lines[-_MOST_FRAMES:])


def _inside(frames: list[_Frame]) -> list[_Frame]:
    """Return the frames that the loop has called, from the outermost one; what has started the loop is not to blame."""
    loops = [at for at, (file, _, _) in enumerate(frames) if file.endswith(_LOOPS)]
    return frames[loops[-1] + 1 :] if loops else frames


def _where(frames: list[_Frame]) -> str:
    """Return whose code holds the thread; `frames` from the outermost one."""
    kind = "code"
    for file, _, name in frames:
        if file.startswith(_OURS):
            kind = _KINDS.get(file.removeprefix(_OURS), kind)
        elif not _is_library(file):
            return f"{kind} {name}"[:_LONGEST]
    return _GATEWAY


def _is_library(file: str) -> bool:
    """Tell whether a file is of Python itself, or of a library that only calls others' code."""
    if file.startswith("<"):
        return True  # a frozen module
    if _SITE in file:
        return any(one in file for one in _CALLERS)
    return file.startswith(_STANDARD) or file.endswith(
        ("/bin/propylon", "/bin/uvicorn", "/bin/gunicorn")
    )
