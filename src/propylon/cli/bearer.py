"""Read the operator's token: from a file, from standard input or from a variable, never from an argument.

Arguments are in the list of processes, which every user of the machine can read.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from propylon.cli.options import UNUSABLE, give_up

__all__ = ["VARIABLE", "TokenFileOption", "bearer"]

VARIABLE = "PROPYLON_TOKEN"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750, 2.1

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
    if file is None:
        token, where = os.environ.get(VARIABLE, "").strip(), VARIABLE
        if not token:
            return ""
    else:
        token, where = _read(file).strip(), str(file)
    # The text itself is not shown: it may be a secret of another kind.
    if not _TOKEN.fullmatch(token):
        give_up(f"{where} holds no bearer token", UNUSABLE)
    return token


def _read(file: Path) -> str:
    if str(file) == "-":
        return sys.stdin.read(65536)
    try:
        with file.open(encoding="ascii") as opened:
            return opened.read(65536)
    except UnicodeDecodeError:
        give_up(f"{file} holds no bearer token", UNUSABLE)
    except OSError as error:
        give_up(f"{file} cannot be read: {(error.strerror or str(error)).lower()}", UNUSABLE)
