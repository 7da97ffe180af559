"""Parse `propylon import`, write its file and its report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from propylon.cli.options import UNUSABLE, give_up

if TYPE_CHECKING:
    from propylon.commands.imports.command import Imported

__all__ = ["import_"]


def import_(
    form: Annotated[
        str, typer.Argument(metavar="FORMAT", help="Whose files they are; see below for the names.")
    ],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files, in order.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write there, not to standard output."),
    ] = None,
    force: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--force", help="Overwrite existing files.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report there, too, as it is printed."),
    ] = None,
    json_: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--json", help="Print the report as JSON.")
    ] = False,
) -> None:
    """Translate the files of another gateway into a propylon.yaml, and report line by line what became of them.

    The formats: kong, krakend, apisix, spring, traefik, nginx, haproxy, fastapi.

    The report goes to standard error. Exit status 0: all is translated, perhaps with differences that make nothing
    weaker; 1: something is not translated, and a route that it protected is written closed; 2: a file cannot be read.
    """
    _refuse_existing([path for path in (output, report) if path is not None], force=force)
    imported = _imported(form, files)
    text = (
        json.dumps(imported.report.as_data(), indent=2, ensure_ascii=False) + "\n"
        if json_
        else str(imported.report)
    )
    sys.stderr.write(text)
    if report is not None:
        _write(report, text)
    if output is None:
        sys.stdout.write(imported.text)
    else:
        _write(output, imported.text)
    raise typer.Exit(imported.report.status)


def _imported(form: str, files: list[Path]) -> Imported:
    from propylon.commands.imports.command import import_files  # noqa: PLC0415
    from propylon.commands.imports.formats import FORMATS  # noqa: PLC0415
    from propylon.commands.imports.source import Unreadable  # noqa: PLC0415

    if form not in FORMATS:
        give_up(f'no format "{form}"; there are {", ".join(FORMATS)}', UNUSABLE)
    try:
        return import_files(form, files)
    except Unreadable as error:
        give_up(str(error), UNUSABLE)


def _refuse_existing(paths: list[Path], *, force: bool) -> None:
    for path in paths:
        if path.exists() and not force:
            give_up(f"{path} exists already; --force overwrites", UNUSABLE)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        give_up(f"cannot write {path}: {(error.strerror or 'unknown reason').lower()}", UNUSABLE)
