"""Parse the command line, call, print. What a command needs is imported when it is called."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from propylon.cli.options import (
    UNUSABLE,
    ConfigOption,
    Format,
    FormatOption,
    give_up,
    load_config,
    print_json,
)
from propylon.cli.users import token, user

if TYPE_CHECKING:
    from propylon.config.reading.load import Loaded

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class Level(StrEnum):
    """The least that is worth a log line."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
PortOption = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")]


@app.callback()
def root() -> None:
    """Propylon: an API gateway for teams that write Python."""


@app.command()
def run(
    config: ConfigOption = None,
    app: Annotated[
        str | None,
        typer.Option(
            metavar="PKG.MODULE:GATEWAY", help="A Gateway of your own, instead of a file."
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: PortOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes that share the port.")
    ] = None,
    log_level: Annotated[
        Level | None, typer.Option(help="The least that is worth a log line.")
    ] = None,
    reload: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--reload", help="Reload whenever the configuration file changes.")
    ] = False,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C; requests in flight may finish. SIGHUP: reload."""
    overrides: dict[str, object] = {
        "server.host": host,
        "server.port": port,
        "server.workers": workers,
        "log.level": None if log_level is None else log_level.value,
    }
    if app is not None:
        _run_own(app, config, overrides, watch=reload)
    loaded = load_config(config, overrides)
    from propylon.config.reading.load import load  # noqa: PLC0415
    from propylon.process.run import start  # noqa: PLC0415

    # The default file, once it was there, must not be replaced by what the environment alone says.
    file = loaded.path or config
    raise typer.Exit(start(loaded, lambda: load(file, os.environ, overrides), watch=reload))


@app.command()
def check(config: ConfigOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Report every problem and every doubt, each with its line; 0 without a problem, else 2."""
    from propylon.commands import check as checking  # noqa: PLC0415
    from propylon.config.reading.load import load  # noqa: PLC0415
    from propylon.config.reading.problems import ConfigError  # noqa: PLC0415

    found: Loaded | ConfigError
    try:
        found = load(config, os.environ)
        if problems := checking.certificate_problems(found):
            raise ConfigError(problems)  # noqa: TRY301 — reported as all others are
    except ConfigError as error:
        found = error
    if format_ is Format.JSON:
        print_json(checking.as_data(found))
    elif isinstance(found, ConfigError):
        sys.stderr.write(f"{found}\n")
    else:
        sys.stderr.write(checking.warnings(found))
        typer.echo(checking.summary(found))
    raise typer.Exit(UNUSABLE if isinstance(found, ConfigError) else 0)


@app.command()
def routes(config: ConfigOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Show the compiled table, in the order in which matching prefers."""
    loaded = load_config(config)
    from propylon.commands import routes as table  # noqa: PLC0415
    from propylon.commands.tables import print_table  # noqa: PLC0415

    if format_ is Format.JSON:
        print_json(table.as_data(loaded))
    else:
        print_table(table.COLUMNS, table.rows(loaded), sys.stdout)


@app.command()
def explain(
    method: Annotated[str, typer.Argument(help="GET, POST, ...")],
    path: Annotated[str, typer.Argument(help="The path, with its query; or a whole URL.")],
    config: ConfigOption = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="NAME:VALUE", help="May be repeated."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="A bearer token; - reads it from stdin.")
    ] = None,
    client: Annotated[str, typer.Option(help="The address that it comes from.")] = "203.0.113.1",
    format_: FormatOption = Format.TEXT,
) -> None:
    """Say which route a request takes and why the others lost, and what the upstream would get."""
    headers = [_header(text) for text in header or ()]
    if token is not None:
        said = sys.stdin.read().strip() if token == "-" else token  # noqa: S105 — no secret
        headers.append(("Authorization", f"Bearer {_one_line(said)}"))
    client = _address(client)
    loaded = load_config(config)
    from propylon.commands.explain.dry_run import Asked  # noqa: PLC0415
    from propylon.commands.explain.explain import explain as explained  # noqa: PLC0415

    found = explained(loaded, Asked(_one_line(method), _one_line(path), headers, client))
    if format_ is Format.JSON:
        print_json(found.as_data())
    else:
        typer.echo(found.as_text(), nl=False)


@app.command()
def init(
    config: ConfigOption = None,
    force: ForceOption = False,  # noqa: FBT002 — typer asks for it
) -> None:
    """Write a commented propylon.yaml to start with, and the schema that editors complete it from."""
    from propylon.commands.init import CannotWrite, write_starter  # noqa: PLC0415

    path = config or Path(os.environ.get("PROPYLON_CONFIG") or "propylon.yaml")
    try:
        file, schema_file = write_starter(path, force=force)
    except CannotWrite as error:
        give_up(str(error), 1)
    named = "" if str(file) == "propylon.yaml" else f" --config {file}"
    typer.echo(
        f"{file} and {schema_file} are written. Next:\n\n"
        f"  edit {file}: say where your services are, and which paths lead there\n"
        f"  propylon check{named}\n"
        f"  propylon run{named}"
    )


@app.command()
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    from propylon.config.models.json_schema import json_schema_text  # noqa: PLC0415

    typer.echo(json_schema_text(), nl=False)


@app.command()
def demo(port: PortOption = None) -> None:
    """Run the gateway in front of small real services, and print curl lines to try."""
    from propylon.commands.demo.demo import demo as show  # noqa: PLC0415

    raise typer.Exit(show(port))


app.add_typer(user, name="user")
app.command()(token)


def main() -> None:
    """Run the command line."""
    app(prog_name="propylon")  # by this name, however it was started


def _run_own(
    name: str, config: Path | None, overrides: dict[str, object], *, watch: bool
) -> NoReturn:
    if config is not None:
        give_up(
            "--app and --config exclude each other: a gateway of your own has its file", UNUSABLE
        )
    from propylon.commands.app import described, found  # noqa: PLC0415
    from propylon.process.run import start_app  # noqa: PLC0415

    raise typer.Exit(start_app(described(name, overrides), lambda: found(name), watch=watch))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = _one_line(text).partition(":")
    if not colon:
        give_up(f'"{text}" is not of the form NAME:VALUE', UNUSABLE)
    return name, value.strip(" \t")


def _one_line(text: str) -> str:
    # A line break would make two header lines, or two requests, of one.
    if "\r" in text or "\n" in text:
        give_up(f"{text!r} has a line break in it", UNUSABLE)
    return text


def _address(text: str) -> str:
    from ipaddress import ip_address  # noqa: PLC0415

    try:
        return str(ip_address(text))
    except ValueError:
        give_up(f'"{text}" is not an IP address', UNUSABLE)
