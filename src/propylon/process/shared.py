"""Make what the workers share, before they are forked: paths, pipes and sockets only."""

from __future__ import annotations

import os
from pathlib import Path

from propylon.config.reading.load import Loaded
from propylon.config.reading.problems import ConfigError
from propylon.process.console import PLAIN, Console
from propylon.stores.place import (
    Place,
    UnsafeDirectory,
    check_base,
    enter,
    lack_of_room,
    private_bases,
    unique_name,
)
from propylon.stores.shared import Shared
from propylon.stores.siblings import lines
from propylon.stores.slot import Slot

__all__ = ["share"]


def share(loaded: Loaded, console: Console = PLAIN) -> Shared:
    """Return what the workers of `loaded` share; say what they cannot.

    Raises ConfigError for a directory that others could write to.
    """
    workers = loaded.config.server.workers
    named = _named(loaded)
    if (
        workers == 1
    ):  # there is nothing to share, and no second worker that would need the configuration
        return Shared(place=None if named is None else _place([named], named, console))
    bases = [*private_bases(os.environ)]
    place = _place(bases if named is None else [named, *bases], named, console)
    return Shared(lines=lines(workers), place=place, last_good=Slot(), key_sets=Slot())


def _named(loaded: Loaded) -> Path | None:
    written = loaded.config.server.state_dir
    if written is None:
        return None
    try:
        check_base(Path(written))
    except UnsafeDirectory as error:
        raise ConfigError([loaded.places.problem(("server", "state_dir"), str(error))]) from error
    return Path(written)


def _place(bases: list[Path], named: Path | None, console: Console) -> Place | None:
    """Make a directory in the first of the bases that can be written."""
    for base in bases:
        try:
            place = enter(base, unique_name())
        except OSError as error:
            if base == named:
                console.warn(f"server.state_dir: {base} cannot be used: {error.strerror}")
            continue
        if (doubt := lack_of_room(place)) is not None:
            console.warn(doubt)
        return place
    console.warn(
        "no directory can be written for what the workers share, so each counts for itself;"
        " set server.state_dir to one that can"
    )
    return None
