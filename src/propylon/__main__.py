"""Start the command line, for `propylon` and for `python -m propylon`."""

from __future__ import annotations

import sys

from propylon.process.hangup import note_hangups

__all__ = ["main"]


def main() -> None:
    """Run the command line; note a SIGHUP that comes while modules are still loading."""
    if sys.argv[1:2] == ["run"]:
        note_hangups()  # the imports below take long enough for a SIGHUP to arrive
    from propylon.cli.main import main as command  # noqa: PLC0415

    command()


if __name__ == "__main__":
    main()
