"""Read the variables of the `.env` file in the working directory, and say which of its lines are none."""

from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path as FilePath
from typing import NamedTuple

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from propylon.config.reading.problems import ConfigError, Problem

__all__ = ["NAME", "EnvFile", "read_envfile"]

NAME = ".env"


class EnvFile(NamedTuple):
    """The variables of a file, `${X}` in them expanded, and a warning for each line that is no assignment."""

    variables: Mapping[str, str]
    doubts: tuple[Problem, ...] = ()


def read_envfile(directory: FilePath) -> EnvFile:
    """Return what the directory's `.env` says; nothing if there is no file. Raises ConfigError."""
    path = directory / NAME
    if not path.is_file():
        return EnvFile({})
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError([Problem(NAME, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(f"{NAME}:{line}", "", "is not UTF-8")]) from error
    statements = [*parse_stream(StringIO(text))]
    good = "".join(one.original.string for one in statements if not one.error)
    # As a shell and Compose do: ${X} is a variable of the file, or of the environment.
    values = dotenv_values(stream=StringIO(good), interpolate=True)
    found = {name: value for name, value in values.items() if value is not None}
    return EnvFile(found, tuple(_not_assignments(statements)))


def _not_assignments(statements: Iterable[Binding]) -> Iterator[Problem]:
    """Yield a warning for each statement that sets nothing. The file may belong to other programs, too."""
    msg = "is no assignment and is ignored; write NAME=value"
    for one in statements:
        if one.error or (one.key is not None and one.value is None):
            text = one.original.string
            # The library counts the blank lines above as part of a statement.
            line = one.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            yield Problem(f"{NAME}:{line}", "", msg)
