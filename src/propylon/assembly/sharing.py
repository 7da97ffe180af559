"""Say what a gateway shares that another server runs: its workers know nothing of each other, but of a directory.

What they share lies in that directory under a name made of the configuration file and the port: gateways with another file
or another port do not meet, even in the same directory. The port alone would not do, for under another server the
configured one is often the default.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError
from propylon.stores.meeting import Meeting
from propylon.stores.place import UnsafeDirectory, check_base
from propylon.stores.shared import Shared

__all__ = ["has_siblings", "shared_of"]

_DIGEST = 8  # bytes
_SERVERS = ("uvicorn", "gunicorn", "granian", "hypercorn", "fastapi")
_NUMBER = re.compile(r"[0-9]{1,4}")
_WORKERS = re.compile(r"(?:--workers=|-w)([0-9]{1,4})")
_ALONE = (
    "server.state_dir is not set, so the workers of this server share nothing: what registers with one of them is"
    " unknown to the others, and each counts limits for itself; set PROPYLON_STATE_DIR to a directory for all of them"
)


def shared_of(loaded: Loaded) -> Shared:
    """Return what a worker shares that makes it for itself; nothing is opened before it starts.

    Raises ConfigError for a directory that others could write to.
    """
    written = loaded.config.server.state_dir
    if written is None:
        return Shared(doubt=_ALONE if has_siblings(os.environ, sys.argv) else None)
    try:
        check_base(Path(written))
    except UnsafeDirectory as error:
        raise ConfigError([loaded.places.problem(("server", "state_dir"), str(error))]) from error
    return Shared(meeting=Meeting(Path(written), _name(loaded)))


def _name(loaded: Loaded) -> str:
    port = loaded.config.server.port
    # Not resolved: where a platform swaps the file by a symbolic link, each version has another path.
    file = Path.cwd() if loaded.path is None else loaded.path.absolute()
    digest = blake2b(os.fsencode(f"{file}:{port}"), digest_size=_DIGEST).hexdigest()
    return f"{port}-{digest}"


def has_siblings(environ: Mapping[str, str], arguments: Iterable[str]) -> bool:
    """Say whether it is known that the server runs several workers: a test or a single one is not to be warned."""
    if environ.get("SERVER_SOFTWARE", "").startswith("gunicorn"):  # a file of its own says how many
        return True
    program, *options = (*arguments, "")
    numbers = [environ.get("WEB_CONCURRENCY", "")]
    if any(server in program for server in _SERVERS):
        numbers += _numbers(options)
    return any(_NUMBER.fullmatch(number) and int(number) > 1 for number in numbers)


def _numbers(options: list[str]) -> Iterable[str]:
    for option, value in pairwise(options):
        if option in {"-w", "--workers"}:
            yield value
        elif (match := _WORKERS.fullmatch(option)) is not None:
            yield match[1]
