"""Read the variables of the `.env` file in the working directory, and say which of its lines are none."""

from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path as FilePath
from typing import NamedTuple

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream
from dotenv.variables import Variable, parse_variables

from propylon.config.reading.problems import ConfigError, Problem
from propylon.config.reading.rules import ENVFILE_LINE

__all__ = ["NAME", "EnvFile", "read_envfile"]

NAME = ".env"


class EnvFile(NamedTuple):
    """The variables of a file, `${X}` in them expanded, the line of each, and a warning for each line with a mistake."""

    variables: Mapping[str, str]
    lines: Mapping[str, int] = {}
    doubts: tuple[Problem, ...] = ()


def read_envfile(directory: FilePath, environ: Mapping[str, str]) -> EnvFile:
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
    lines = {one.key: _line(one) for one in statements if one.key is not None}
    doubts = (*_not_assignments(statements), *_unknown(statements, environ))
    return EnvFile(found, lines, tuple(sorted(doubts, key=_line_of)))


def _line(statement: Binding) -> int:
    # The library counts the blank lines above as part of a statement.
    text = statement.original.string
    return statement.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _line_of(problem: Problem) -> int:
    return int(problem.place.rpartition(":")[2])


def _not_assignments(statements: Iterable[Binding]) -> Iterator[Problem]:
    """Yield a warning for each statement that sets nothing. The file may belong to other programs, too."""
    msg = "is no assignment and is ignored; write NAME=value"
    for one in statements:
        if one.error or (one.key is not None and one.value is None):
            yield Problem(f"{NAME}:{_line(one)}", "", msg, ENVFILE_LINE.id)


def _unknown(statements: Iterable[Binding], environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a warning for each `${X}` that is set nowhere: it is replaced by nothing."""
    known = {*environ}
    for one in statements:
        for atom in parse_variables(one.value or ""):
            if isinstance(atom, Variable) and atom.default is None and atom.name not in known:
                msg = f"{atom.name} is not set, so ${{{atom.name}}} is empty here"
                advice = f"set it above this line, or write ${{{atom.name}:-default}}"
                yield Problem(
                    f"{NAME}:{_line(one)}", one.key or "", f"{msg}; {advice}", ENVFILE_LINE.id
                )
        if one.key is not None:
            known.add(one.key)
