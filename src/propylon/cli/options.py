"""Define what several commands share: options, output formats, how to end with an error."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from propylon.config.reading.load import Loaded

__all__ = [
    "UNUSABLE",
    "ConfigOption",
    "Format",
    "FormatOption",
    "HostOption",
    "PortOption",
    "give_up",
    "load_config",
    "print_json",
]

UNUSABLE = 2  # exit status: the configuration or an argument is wrong; nothing was done

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The configuration file; by default $PROPYLON_CONFIG, else propylon.yaml.",
    ),
]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")]


class Format(StrEnum):
    """The output formats that `--format` takes."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", help="text for people, json for programs.")
]


def load_config(config: Path | None, overrides: dict[str, object] | None = None) -> Loaded:
    """Return the configuration, or print every problem and end with status 2."""
    from propylon.config.reading.load import load  # noqa: PLC0415
    from propylon.config.reading.problems import ConfigError  # noqa: PLC0415

    try:
        return load(config, os.environ, overrides or {})
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(UNUSABLE) from None


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def give_up(message: str, status: int) -> NoReturn:
    """Print why the command failed to standard error, and end with this status."""
    sys.stderr.write(f"propylon: {message}\n")
    raise typer.Exit(status)
