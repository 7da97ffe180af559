"""Remember a SIGHUP that comes before there is a loop to hear it.

The file may have been read by then: whoever starts must read it again, or would go on with an old one.
"""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["early_hangup", "note_hangups"]

_noted: list[int] = []


def note_hangups() -> None:
    """Have SIGHUP do no more than be remembered, until a loop takes it over."""
    signal.signal(signal.SIGHUP, _note)


def early_hangup() -> bool:
    """Say whether one has come, once."""
    came = bool(_noted)
    _noted.clear()
    return came


def _note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 — signal's contract
    _noted.append(number)
