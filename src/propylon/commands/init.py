"""Write the files that a new gateway starts with."""

from __future__ import annotations

from pathlib import Path

from propylon.commands.starter import starter
from propylon.config.models.json_schema import json_schema_text

__all__ = ["CannotWrite", "write_starter"]

SCHEMA = "propylon.schema.json"


class CannotWrite(Exception):
    """Nothing was written; the message is one clear sentence."""


def write_starter(path: Path, *, force: bool) -> tuple[Path, Path]:
    """Write the starter file and, beside it, the schema for editors. Raises CannotWrite."""
    texts = {path: starter(), path.parent / SCHEMA: json_schema_text()}
    # The schema may have been written before, for another file; the same text again does no harm.
    taken = [
        file for file in texts if file.exists() and (file == path or _differs(file, texts[file]))
    ]
    if taken and not force:
        there = "is there already" if len(taken) == 1 else "are there already"
        msg = f"{' and '.join(map(str, taken))} {there}; --force overwrites"
        raise CannotWrite(msg)
    for file, text in texts.items():
        _write(file, text)
    return path, path.parent / SCHEMA


def _differs(file: Path, text: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") != text
    except (OSError, UnicodeDecodeError):
        return True


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {file}: {(error.strerror or 'unknown reason').lower()}"
        raise CannotWrite(msg) from error
