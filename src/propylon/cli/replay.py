"""Parse `propylon replay`, print which decisions differ."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from propylon.cli.options import UNUSABLE, Format, FormatOption, give_up, load_config, print_json

if TYPE_CHECKING:
    from propylon.commands.replay.compare import Comparison, Expectation
    from propylon.commands.replay.log import Log
    from propylon.config.reading.load import Loaded

__all__ = ["replay"]


def replay(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="An access log of Propylon (JSON lines) or in the combined format of nginx and Apache, or a HAR file; - is standard"
            " input.",
        ),
    ],
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The candidate.")],
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What it is compared with; by default $PROPYLON_CONFIG, else propylon.yaml.",
        ),
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[:NEW]",
            help="A change that is meant, such as route:orders-v2 or path; a * at the end stands for any rest; may be repeated.",
        ),
    ] = None,
    expect_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same, one a line; # begins a remark.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="The Host of requests whose log has none. Of a HAR file: the only host whose requests are read."
        ),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Send the requests of a log through the current and a candidate configuration, offline, and tell which decisions differ.

    Exit status: 0; 1 for a change that is not expected; 2 for a problem.
    """
    expected = _expected(expect or [], expect_file)
    current, candidate = load_config(against), load_config(config)
    from propylon.commands.replay.log import NoLog, open_log  # noqa: PLC0415
    from propylon.commands.replay.report import as_data, as_text, notes  # noqa: PLC0415

    try:
        opened = open_log(log, sys.stdin, host)
        found = asyncio.run(_compared(opened, current, candidate, expected))
    except NoLog as error:
        give_up(str(error), UNUSABLE)
    said = notes(opened, found, (current.config, candidate.config))
    if format_ is Format.JSON:
        print_json(as_data(opened, found, said))
    else:
        typer.echo(as_text(opened, found, said), nl=False)
    raise typer.Exit(1 if found.unexpected else 0)


async def _compared(
    log: Log, current: Loaded, candidate: Loaded, expected: list[Expectation]
) -> Comparison:
    from propylon.commands.replay.compare import compare  # noqa: PLC0415
    from propylon.commands.replay.judge import Judge  # noqa: PLC0415

    return await compare(log, Judge(current), Judge(candidate), expected)


def _expected(written: list[str], file: Path | None) -> list[Expectation]:
    from propylon.commands.replay.compare import BadExpectation, expectations  # noqa: PLC0415

    try:
        lines = [] if file is None else file.read_text(encoding="utf-8").splitlines()
        return expectations([*written, *lines])
    except BadExpectation as error:
        give_up(str(error), UNUSABLE)
    except (OSError, UnicodeDecodeError):
        give_up(f"{file} cannot be read", UNUSABLE)
