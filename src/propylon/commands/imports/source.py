"""Read the files of the operator, and no others, within bounds."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from propylon.commands.imports.report import At, Place

__all__ = ["LARGEST", "MOST_LINES", "Source", "Unreadable", "read_sources"]

LARGEST = 4_000_000  # bytes of one file; ten thousand routes of Kong are half of it
MOST_LINES = 100_000


class Unreadable(Exception):
    """A file cannot be read; the message says which, where and why, for the operator."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file: its name as the operator wrote it, and its text."""

    name: str
    text: str

    def at(self, line: int, what: str) -> At:
        """Return what stands on a line, counted from 1, under its name in the format's words."""
        return At(Place(self.name, line), what)

    def refuse(self, line: int, why: str) -> Unreadable:
        """Return the error for a line that cannot be read."""
        return Unreadable(f"{self.name}:{line}: {why}")


def read_sources(paths: list[Path]) -> list[Source]:
    """Read files. Raises Unreadable for a file that is missing, no regular file, too large, or no text."""
    return [_read(path) for path in paths]


def _read(path: Path) -> Source:
    try:
        # A pipe or a device might never end.
        if not stat.S_ISREG(path.stat().st_mode):
            msg = f"{path}: not a regular file"
            raise Unreadable(msg)
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        msg = f"{path}: cannot be read: {(error.strerror or 'unknown reason').lower()}"
        raise Unreadable(msg) from error
    if len(data) > LARGEST:
        msg = f"{path}: larger than {LARGEST:,} bytes"
        raise Unreadable(msg)
    return Source(str(path), _decoded(path, data))


def _decoded(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        msg = f"{path}:{line}: not UTF-8"
        raise Unreadable(msg) from error
    text = text.replace("\r\n", "\n")
    if "\0" in text:
        msg = f"{path}:{text.count(chr(10), 0, text.index(chr(0))) + 1}: holds a NUL byte"
        raise Unreadable(msg)
    if text.count("\n") > MOST_LINES:
        msg = f"{path}: more than {MOST_LINES:,} lines"
        raise Unreadable(msg)
    return text
