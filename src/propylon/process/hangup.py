"""Remember a SIGHUP that arrives before there is an event loop to hear it.

The worker may have read the file by then. It must read it again, or it would go on with an old one.
"""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["early_hangup", "note_hangups"]

_noted: list[int] = []


def note_hangups() -> None:
    """Have SIGHUP do no more than be remembered, until a loop takes it over.

    SIGUSR1 does nothing until then: no file of the log is open yet that could be opened anew. It has a handler, because
    programs that are started would inherit that it is ignored.
    """
    signal.signal(signal.SIGHUP, _note)
    signal.signal(signal.SIGUSR1, _nothing)


def early_hangup() -> bool:
    """Say whether one has come, once."""
    came = bool(_noted)
    _noted.clear()
    return came


def _note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 — signal's contract
    _noted.append(number)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Let the signal pass."""
