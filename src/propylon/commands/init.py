"""Write the files of a new gateway: the starter file, and the JSON schema for editors."""

from __future__ import annotations

from pathlib import Path

from propylon.commands.starter import starter
from propylon.config.models.json_schema import json_schema_text

__all__ = ["StarterNotWritten", "write_starter"]

SCHEMA = "propylon.schema.json"


class StarterNotWritten(Exception):
    """A file exists already, or cannot be written; the message says which."""


def write_starter(path: Path, *, force: bool, full: bool = False) -> tuple[Path, Path]:
    """Write the starter file and, beside it, the schema; return both paths. `full`: with every key.

    Raises StarterNotWritten.
    """
    texts = {path: starter(full=full), path.parent / SCHEMA: json_schema_text()}
    # The schema may be there already, for another file. Writing the same text again does no harm.
    taken = [
        file for file in texts if file.exists() and (file == path or _differs(file, texts[file]))
    ]
    if taken and not force:
        there = "exists already" if len(taken) == 1 else "exist already"
        msg = f"{' and '.join(map(str, taken))} {there}; --force overwrites"
        raise StarterNotWritten(msg)
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
        raise StarterNotWritten(msg) from error
