"""Parse the command line, call, print."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from propylon.config.load import Loaded, load
from propylon.config.problems import ConfigError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ConfigOption = Annotated[
    Optional[Path], typer.Option("--config", "-c", help="The configuration file.")  # noqa: UP045
]


@app.callback()
def root() -> None:
    """Propylon: an API gateway for teams that write Python."""


@app.command()
def run(
    config: ConfigOption = None,
    host: Annotated[Optional[str], typer.Option(help="Address to listen on.")] = None,  # noqa: UP045
    port: Annotated[Optional[int], typer.Option(help="Port to listen on.")] = None,  # noqa: UP045
    workers: Annotated[Optional[int], typer.Option(help="Processes.")] = None,  # noqa: UP045
    log_level: Annotated[Optional[str], typer.Option(help="debug, info, warning, error.")] = None,  # noqa: UP045
) -> None:
    """Run the gateway."""
    overrides = {
        "server.host": host,
        "server.port": port,
        "server.workers": workers,
        "log.level": log_level,
    }
    from propylon.run import start

    raise typer.Exit(start(lambda: _load(config, overrides)))


def _load(config: Path | None, overrides: dict[str, object]) -> Loaded:
    try:
        return load(config, os.environ, overrides)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from None


def main() -> None:
    """Run the command line."""
    app()
