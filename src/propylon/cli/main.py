"""Parse the command line, call the command, print its result.

Each command imports what it needs when it is called. So `propylon --help` loads neither FastAPI nor a database.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from propylon.cli.audit import audit
from propylon.cli.health import health
from propylon.cli.imports import import_
from propylon.cli.options import (
    UNUSABLE,
    ConfigOption,
    Format,
    FormatOption,
    HostOption,
    PortOption,
    give_up,
    load_config,
    print_json,
)
from propylon.cli.replay import replay
from propylon.cli.top import top
from propylon.cli.users import token, user
from propylon.version import __version__
from propylon.wire import native

if TYPE_CHECKING:
    from propylon.config.reading.load import Loaded

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Level(StrEnum):
    """The log levels that `--log-level` takes."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogFormat(StrEnum):
    """The formats that `--log-format` takes."""

    JSON = "json"
    TEXT = "text"


AppOption = Annotated[
    str | None,
    typer.Option(
        metavar="PKG.MODULE:GATEWAY",
        help="A Gateway object of your own instead of a file; also ./file.py:GATEWAY.",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]


def _print_version(asked: bool) -> None:  # noqa: FBT001 — typer calls it
    if asked:
        typer.echo(f"propylon {__version__} ({native.implementation})")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[  # noqa: FBT002 — its callback answers
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Propylon: an API gateway for teams that write Python."""


@app.command()
def run(
    config: ConfigOption = None,
    app: AppOption = None,
    host: HostOption = None,
    port: PortOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="How many processes share the port.")
    ] = None,
    log_level: Annotated[Level | None, typer.Option(help="Log nothing below this level.")] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(help="text for people, json for programs; by default by what stdout is."),
    ] = None,
    reload: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--reload", help="Reload whenever the configuration file changes.")
    ] = False,
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C. Requests in flight complete. SIGHUP reloads the file, SIGUSR1 reopens log files."""
    overrides: dict[str, object] = {
        "server.host": host,
        "server.port": port,
        "server.workers": workers,
        "log.level": None if log_level is None else log_level.value,
        "log.format": None if log_format is None else log_format.value,
    }
    if app is not None:
        _run_app(app, config, overrides, watch=reload)
    loaded = load_config(config, overrides)
    from propylon.config.reading.load import load  # noqa: PLC0415
    from propylon.process.run import start  # noqa: PLC0415

    # Reload the file that was found at the start: if it is gone, that is an error, not a configuration without a file.
    file = loaded.path or config
    raise typer.Exit(start(loaded, lambda: load(file, os.environ, overrides), watch=reload))


@app.command()
def check(
    config: ConfigOption = None,
    app: AppOption = None,
    connect: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--connect", help="Connect to the database and to Redis, too.")
    ] = False,
    strict: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--strict", help="Exit status 1 if there is a warning.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Report every problem and every warning, each with its line.

    Exit status: 0; 2 for a problem; with --strict, 1 for a warning.
    """
    from propylon.commands import check as checking  # noqa: PLC0415
    from propylon.commands.tables import flowing  # noqa: PLC0415
    from propylon.config.reading.load import load  # noqa: PLC0415
    from propylon.config.reading.problems import ConfigError  # noqa: PLC0415

    result: Loaded | ConfigError
    try:
        result = load(config, os.environ) if app is None else _checked_config_of(app, config)
        found, doubts = checking.listener_findings(result)
        found += checking.database_problems(result, connect=connect)
        if problems := [*found, *checking.redis_problems(result, connect=connect)]:
            raise ConfigError(problems)  # noqa: TRY301 — reported like the problems of the file
        result = replace(result, warnings=(*result.warnings, *doubts))
    except ConfigError as error:
        result = error
    if format_ is Format.JSON:
        print_json(checking.as_data(result))
    elif isinstance(result, ConfigError):
        sys.stderr.write(flowing(f"{result}\n", sys.stderr))
    else:
        sys.stderr.write(flowing(checking.warnings(result), sys.stderr))
        typer.echo(flowing(f"{checking.summary(result)}\n", sys.stdout), nl=False)
    raise typer.Exit(checking.status(result, strict=strict))


@app.command()
def routes(
    config: ConfigOption = None,
    app: AppOption = None,
    all_: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--all", help="Show the gateway's own endpoints, too.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the compiled routing table, the most specific routes first. JSON has every rule of every route."""
    loaded = _loaded(app, config)
    from propylon.commands import routes as table  # noqa: PLC0415
    from propylon.commands.tables import print_table  # noqa: PLC0415

    if format_ is Format.JSON:
        print_json(table.as_data(loaded))
        return
    print_table(table.COLUMNS, table.rows(loaded, own=all_), sys.stdout)
    if not all_:
        # For people: what reads the table in a pipe gets the table only.
        sys.stderr.write(f"{table.footer(loaded)}\n")


@app.command()
def explain(
    method: Annotated[str, typer.Argument(help="GET, POST, ...")],
    path: Annotated[str, typer.Argument(help="The path with its query, or a whole URL.")],
    config: ConfigOption = None,
    app: AppOption = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header", "-H", metavar="NAME:VALUE", help="A header of the request; may be repeated."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="A bearer token; - reads it from standard input."),
    ] = None,
    client: Annotated[str, typer.Option(help="The client's IP address.")] = "203.0.113.1",
    fail: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--fail", help="Exit status 1 if the request would be refused.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show which route a request takes, why the others lost, and what the upstream would get.

    Exit status: 0, also for a request that would be refused; 2 for a problem; with --fail, 1 for a refused request.
    """
    headers = [_header(text) for text in header or ()]
    if token is not None:
        given = sys.stdin.read().strip() if token == "-" else token  # noqa: S105 — no secret
        headers.append(("Authorization", f"Bearer {_one_line(given)}"))
    client = _address(client)
    loaded = _loaded(app, config)
    from propylon.commands.explain.dry_run import SampleRequest  # noqa: PLC0415
    from propylon.commands.explain.explain import explain as explain_request  # noqa: PLC0415

    sample = SampleRequest(_one_line(method).upper(), _one_line(path), headers, client)
    explanation = explain_request(loaded, sample)
    if format_ is Format.JSON:
        print_json(explanation.as_data())
    else:
        typer.echo(explanation.as_text(), nl=False)
    raise typer.Exit(1 if fail and explanation.refused else 0)


@app.command()
def init(
    config: ConfigOption = None,
    force: ForceOption = False,  # noqa: FBT002 — typer asks for it
    full: Annotated[  # noqa: FBT002 — typer asks for it
        bool, typer.Option("--full", help="Write every key, with its default and a comment.")
    ] = False,
) -> None:
    """Write a short propylon.yaml to start with, and its JSON schema for editors."""
    from propylon.commands.init import StarterNotWritten, write_starter  # noqa: PLC0415

    path = config or Path(os.environ.get("PROPYLON_CONFIG") or "propylon.yaml")
    try:
        file, schema_file = write_starter(path, force=force, full=full)
    except StarterNotWritten as error:
        give_up(str(error), 1)
    named = "" if str(file) == "propylon.yaml" else f" --config {file}"
    typer.echo(
        f"{file} and {schema_file} are written. Next:\n\n"
        f"  edit {file}: write where your services are, and which paths lead to them\n"
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
app.command()(health)
app.command()(audit)
app.command()(top)
app.command("import")(import_)
app.command()(replay)


def main() -> None:
    """Run the command line, under the name `propylon` also for `python -m propylon`."""
    app(prog_name="propylon")


def _run_app(
    name: str, config: Path | None, overrides: dict[str, object], *, watch: bool
) -> NoReturn:
    loaded = _config_of(name, config, overrides)
    from propylon.commands.app import load_gateway  # noqa: PLC0415
    from propylon.process.run import start_app  # noqa: PLC0415

    raise typer.Exit(start_app(loaded, lambda: load_gateway(name), watch=watch))


def _loaded(app: str | None, config: Path | None) -> Loaded:
    return load_config(config) if app is None else _config_of(app, config, {})


def _config_of(name: str, config: Path | None, overrides: dict[str, object]) -> Loaded:
    """Return the configuration of the Gateway object that --app names, or print why there is none and end."""
    _refuse_both(config)
    from propylon.commands.app import read_config  # noqa: PLC0415

    return read_config(name, overrides)


def _checked_config_of(name: str, config: Path | None) -> Loaded:
    """Return the same. Raises ConfigError where the object's endpoints contradict it."""
    _refuse_both(config)
    from propylon.commands.app import read_checked  # noqa: PLC0415

    return read_checked(name)


def _refuse_both(config: Path | None) -> None:
    if config is not None:
        give_up(
            "--app and --config exclude each other: your Gateway object names its own file",
            UNUSABLE,
        )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = _one_line(text).partition(":")
    if not colon:
        give_up(f'"{text}" is not of the form NAME:VALUE', UNUSABLE)
    return name, value.strip(" \t")


def _one_line(text: str) -> str:
    # A line break would start another header line, or another request.
    if "\r" in text or "\n" in text:
        give_up(f"{text!r} contains a line break", UNUSABLE)
    return text


def _address(text: str) -> str:
    from ipaddress import ip_address  # noqa: PLC0415

    try:
        return str(ip_address(text))
    except ValueError:
        give_up(f'"{text}" is not an IP address', UNUSABLE)
