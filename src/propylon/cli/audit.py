"""Parse `propylon audit`, print its report."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from propylon.cli.bearer import TokenFileOption, bearer
from propylon.cli.options import UNUSABLE, ConfigOption, give_up, print_json

if TYPE_CHECKING:
    from pathlib import Path

    from propylon.commands.audit.audit import Report
    from propylon.commands.audit.judging import Least
    from propylon.commands.audit.source import Scrape
    from propylon.config.reading.load import Loaded

__all__ = ["audit"]

_NONE = "none"


class AuditFormat(StrEnum):
    """The output formats of an audit."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


class FailOn(StrEnum):
    """At which findings the exit status is 1."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    NEVER = "never"


def audit(
    config: ConfigOption = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL|none",
            help="Where /metrics is read: a saved text, or a URL. By default the gateway that the file starts on this machine.",
        ),
    ] = None,
    token_file: TokenFileOption = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="PRP101", help="Silence a rule; may be repeated."),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit status 1 for a finding of this level, or a worse one.")
    ] = FailOn.NEVER,
    min_requests: Annotated[
        int, typer.Option(min=1, help="With fewer requests, nothing is said about traffic.")
    ] = 1000,
    min_age: Annotated[
        str, typer.Option(help="How long the configuration must be in force for that.")
    ] = "1h",
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds that /metrics may take.")
    ] = 5.0,
    format_: Annotated[
        AuditFormat,
        typer.Option("--format", help="text for people, json for programs, sarif for code hosts."),
    ] = AuditFormat.TEXT,
) -> None:
    """Hold the configuration against numbered rules, and against what the running gateway has measured.

    Exit status: 0; 2 for a problem; with --fail-on, 1 for a finding. docs/reference/audit.md lists the rules.
    """
    ignored = _ignored(ignore or [])
    least = _least(min_requests, min_age)
    report = _report(config, (metrics, token_file, timeout), least, ignored)
    _print(report, format_)
    raise typer.Exit(report.status(fail_on.value))


def _ignored(ids: list[str]) -> frozenset[str]:
    from propylon.commands.audit.catalogue import BY_ID  # noqa: PLC0415
    from propylon.commands.audit.catalogue import UNUSABLE as PROBLEM  # noqa: PLC0415

    for one in ids:
        if one not in BY_ID:
            give_up(f'there is no rule "{one}"; docs/reference/audit.md lists them', UNUSABLE)
        if one == PROBLEM.id:
            give_up(f"{one} cannot be silenced: the gateway does not start then", UNUSABLE)
    return frozenset(ids)


def _least(requests: int, age: str) -> Least:
    from propylon.commands.audit.judging import Least  # noqa: PLC0415
    from propylon.config.models.units import parse_duration  # noqa: PLC0415

    try:
        return Least(requests, parse_duration(age))
    except ValueError as error:
        give_up(f"--min-age {error}", UNUSABLE)


def _report(
    config: Path | None,
    asked: tuple[str | None, Path | None, float],
    least: Least,
    ignored: frozenset[str],
) -> Report:
    from propylon.commands import check as checking  # noqa: PLC0415
    from propylon.commands.audit.audit import audit as judge  # noqa: PLC0415
    from propylon.commands.audit.audit import unusable  # noqa: PLC0415
    from propylon.commands.audit.scrape import NoMetrics  # noqa: PLC0415
    from propylon.config.reading.load import load  # noqa: PLC0415
    from propylon.config.reading.problems import ConfigError  # noqa: PLC0415

    try:
        loaded = load(config, os.environ)
        problems, doubts = checking.listener_findings(loaded)
        problems += checking.database_problems(loaded, connect=False)
        if problems := [*problems, *checking.redis_problems(loaded, connect=False)]:
            raise ConfigError(problems)  # noqa: TRY301 — reported like the problems of the file
        return judge(loaded, doubts, _scraped(loaded, *asked), least, ignored)
    except ConfigError as error:
        return unusable(error)
    except NoMetrics as error:
        give_up(str(error), UNUSABLE)


def _scraped(
    loaded: Loaded, metrics: str | None, token_file: Path | None, timeout: float
) -> Scrape | str:
    """Return the text of metrics, or why there is none. Raises NoMetrics for a place that was named."""
    from propylon.commands.audit.scrape import NoMetrics, read  # noqa: PLC0415
    from propylon.commands.audit.source import from_place, from_this_machine  # noqa: PLC0415

    if metrics == _NONE:
        return "nothing was asked (--metrics none)"
    token = bearer(token_file)
    if metrics is not None:
        return from_place(metrics, token, timeout)
    try:
        scraped = from_this_machine(loaded.config, token, timeout)
        read(scraped.text)
    except NoMetrics as error:
        return f"no gateway to ask: {error}"
    return scraped


def _print(report: Report, format_: AuditFormat) -> None:
    from propylon.commands.audit.report import as_data, as_text  # noqa: PLC0415
    from propylon.commands.audit.sarif import as_sarif  # noqa: PLC0415
    from propylon.commands.tables import flowing  # noqa: PLC0415

    if format_ is AuditFormat.TEXT:
        typer.echo(flowing(as_text(report), sys.stdout), nl=False)
    else:
        print_json(as_data(report) if format_ is AuditFormat.JSON else as_sarif(report))
