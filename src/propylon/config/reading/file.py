"""Read one file of the configuration: its text, and its values with their lines."""

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import NoReturn

from propylon.config.reading.document import Document, Unreadable, read
from propylon.config.reading.problems import ConfigError, Problem

__all__ = ["read_file"]

# Ten thousand routes fit; a log or a disk image named by mistake does not.
LARGEST_FILE = 1024 * 1024


def read_file(path: FilePath, environ: Mapping[str, str]) -> Document:
    """Read a mapping of keys to values; an empty file is an empty one. Raises ConfigError."""
    text = _text(path)
    try:
        document = read(text, environ)
    except Unreadable as error:
        raise ConfigError([Problem(f"{path}:{error.line}", "", error.message)]) from error
    if document.value is None:
        document.value = {}
    if not isinstance(document.value, dict):
        msg = "must be a mapping of keys to values, such as `server:` and `routes:`"
        raise ConfigError([Problem(f"{path}:1", "", msg)])
    if isinstance(document.value.get("redis"), str):
        # The long form: a variable may set another key of it.
        document.value["redis"] = {"url": document.value["redis"]}
    return document


def _text(path: FilePath) -> str:
    try:
        if path.is_dir():
            _refuse(path, "it is a directory")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        _refuse(path, (error.strerror or "unknown reason").lower(), error)
    if len(content) > LARGEST_FILE:
        _refuse(path, "it is larger than 1 MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        _refuse(path, f"line {line} is not UTF-8", error)


def _refuse(path: FilePath, reason: str, cause: Exception | None = None) -> NoReturn:
    raise ConfigError([Problem(str(path), "", f"cannot be read: {reason}")]) from cause
