"""Parse `propylon top`, and show the gateway in the terminal."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from propylon.cli.bearer import TokenFileOption, bearer, token_source
from propylon.cli.options import UNUSABLE, ConfigOption, give_up, load_config

if TYPE_CHECKING:
    from propylon.commands.top.link import Place
    from propylon.config.models.schema import GatewayConfig

__all__ = ["top"]

_INSTALL = "pip install 'propylon[top]'"


def top(
    config: ConfigOption = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The gateway, such as http://10.0.0.1:8001. By default the one that the file starts on this machine.",
        ),
    ] = None,
    token_file: TokenFileOption = None,
) -> None:
    """Show services, instances and routes as they are now, for all workers, and let an operator act.

    It wants a token with the scope admin. Exit status: 0; 2 for a problem.
    """
    if find_spec("textual") is None:
        give_up(f"it needs textual, which is not installed: {_INSTALL}", UNUSABLE)
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        give_up(
            "it draws on a terminal and reads keys from it; standard input or output is none",
            UNUSABLE,
        )
    if str(token_file) == "-":
        give_up("keys come from standard input, so the token cannot: name a file", UNUSABLE)
    bearer(token_file)  # what is wrong with it is said before the screen is drawn
    loaded = load_config(config)
    place = _place(url, loaded.config)
    from propylon.commands.top.link import Link  # noqa: PLC0415
    from propylon.commands.top.screen import Top  # noqa: PLC0415

    Top(Link(place, loaded.config.prefix, token_source(token_file))).run()


def _place(url: str | None, config: GatewayConfig) -> Place:
    from propylon.commands.top.link import LinkLost, of_this_machine, of_url  # noqa: PLC0415

    try:
        return of_this_machine(config) if url is None else of_url(url)
    except LinkLost as error:
        give_up(str(error), UNUSABLE)
