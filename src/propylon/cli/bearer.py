"""Read the operator's token: from a file, from standard input or from a variable, never from an argument.

Arguments are in the list of processes, which every user of the machine can read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from propylon.cli.options import UNUSABLE, give_up
from propylon.wire.grammar import TOKEN68

__all__ = ["VARIABLE", "TokenFileOption", "bearer", "token_source"]

VARIABLE = "PROPYLON_TOKEN"
_LARGEST = 65536

TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help=f"A file with a bearer token; - reads it from standard input. By default ${VARIABLE}.",
    ),
]


def bearer(file: Path | None) -> str:
    """Return the token; "" if there is none. Ends the command if the file cannot be read or holds no token."""
    try:
        return token_source(file)()
    except ValueError as error:
        give_up(str(error), UNUSABLE)


def token_source(file: Path | None) -> Callable[[], str]:
    """Return what reads the token anew each time, for a command that lives longer than a token. It raises ValueError.

    Standard input and the variable are read once.
    """
    if file is not None and str(file) != "-":
        return lambda: _checked(_read(file), str(file))
    if file is not None:
        return _standard_input
    return lambda: _checked(os.environ.get(VARIABLE, ""), VARIABLE) if _is_set() else ""


def _is_set() -> bool:
    return bool(os.environ.get(VARIABLE, "").strip())


@cache
def _standard_input() -> str:
    return _checked(sys.stdin.read(_LARGEST), "standard input")


def _checked(text: str, where: str) -> str:
    token = text.strip()
    # The text itself is not shown: it may be a secret of another kind.
    if not TOKEN68.fullmatch(token):
        msg = f"{where} holds no bearer token"
        raise ValueError(msg)
    return token


def _read(file: Path) -> str:
    try:
        with file.open(encoding="latin-1") as opened:
            return opened.read(_LARGEST)
    except OSError as error:
        msg = f"{file} cannot be read: {(error.strerror or str(error)).lower()}"
        raise ValueError(msg) from error
