"""Begin: `propylon`, or `python -m propylon`."""

from __future__ import annotations

import sys

from propylon.process.hangup import note_hangups

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["run"]:
        note_hangups()  # what is loaded from here on takes long enough for a SIGHUP to come
    from propylon.cli.main import main as command  # noqa: PLC0415

    command()


if __name__ == "__main__":
    main()
