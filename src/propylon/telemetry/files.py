"""Append to files that other programs rotate.

A rotation renames the file and asks the gateway to open it anew, by SIGUSR1 as with nginx. The lines that were written before
the signal are in the old file, the others in the new one, and none is lost or cut. A file that was renamed or removed without a
signal is noticed with the next batch. With `copytruncate` nothing is needed: each batch goes to the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from propylon.telemetry.losses import Losses
from propylon.telemetry.writer import to_descriptor

__all__ = ["File", "check_file"]

# Only the gateway's user reads it: it holds names and addresses.
_MODE = 0o600


def check_file(path: str) -> None:
    """Raise OSError if the file cannot be appended to. It is made if it does not exist."""
    os.close(_open(path))


def _open(path: str) -> int:
    # A FIFO that nobody reads would hold whoever opens it for ever: so it fails (ENXIO). Writing waits as ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, _MODE)
    os.set_blocking(descriptor, True)
    return descriptor


class File:
    """A file that is appended to. Workers share it: with O_APPEND each batch of whole lines is written at the end.

    It is called in the writer's thread.
    """

    def __init__(
        self,
        path: str,
        losses: Losses,
        *,
        patience: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the file. Raises OSError if that cannot be done now.

        `patience`: seconds for which lines go on into a file that was renamed, until there is another one: a program that
        rotates wants to make it itself.
        """
        self._path = path
        self._losses = losses
        self._patience = patience
        self._clock = clock
        self._missing_since: float | None = None
        self._descriptor = _open(self._path)

    def __call__(self, batch: bytes) -> None:
        """Write a batch of whole lines."""
        try:
            if self._is_another():
                self._close()
            if self._descriptor < 0:
                self._descriptor = _open(self._path)
            to_descriptor(self._descriptor, raises=True)(batch)
        except OSError as error:
            self._losses.lost(error, batch)
        else:
            self._losses.well()

    def reopen(self) -> None:
        """Write to the file that the path leads to from now on; make it at once, as nginx does."""
        self._close()
        try:
            self._descriptor = _open(self._path)
        except OSError as error:
            self._losses.lost(error, b"")  # it is tried again with each batch

    def close(self) -> None:
        """Let go of the file."""
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._missing_since = -1, None

    def _is_another(self) -> bool:
        """Tell whether the path leads to another file than the open one, or has led to none for a while."""
        if self._descriptor < 0:
            return False
        try:
            found = os.stat(self._path)  # noqa: PTH116 — beside fstat
        except FileNotFoundError:
            if self._missing_since is None:
                self._missing_since = self._clock()
            return self._clock() - self._missing_since >= self._patience
        self._missing_since = None
        held = os.fstat(self._descriptor)
        return (found.st_dev, found.st_ino) != (held.st_dev, held.st_ino)
