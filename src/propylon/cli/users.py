"""Parse the commands about users and tokens, call, print: a part of `propylon.cli.main`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from propylon.config.reading.load import Loaded

__all__ = ["token", "user"]

user = typer.Typer(no_args_is_help=True, help="The users who may ask for tokens.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The user, in any capitals.")]
StdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
ScopesOption = Annotated[
    str, typer.Option(metavar="'READ WRITE'", help="Scopes, separated by spaces.")
]
RolesOption = Annotated[
    str, typer.Option(metavar="'CLERK ADMIN'", help="Roles, separated by spaces.")
]


@user.command("add")
def add_user(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")],
    config: ConfigOption = None,
    password_stdin: StdinOption = False,  # noqa: FBT002 — typer asks for it
    scopes: ScopesOption = "",
    roles: RolesOption = "",
    email: Annotated[str, typer.Option(help="The user's email address.")] = "",
    full_name: Annotated[str, typer.Option(help="What the user is called.")] = "",
) -> None:
    """Add a user; the password is asked for."""
    loaded = _for_users(config)
    password = _password(from_stdin=password_stdin)
    from propylon.commands import user as users  # noqa: PLC0415
    from propylon.stores.users import User  # noqa: PLC0415

    words = frozenset(scopes.split()), frozenset(roles.split())
    _done(lambda: users.add(loaded, User(name, email, full_name, *words), password))


@user.command("list")
def list_users(config: ConfigOption = None, format_: FormatOption = Format.TEXT) -> None:
    """List the users, and what their tokens may say."""
    loaded = _for_users(config)
    from propylon.commands import user as users  # noqa: PLC0415
    from propylon.commands.tables import print_table  # noqa: PLC0415

    try:
        found = users.listed(loaded)
    except users.Refused as error:
        give_up(str(error), error.status)
    if format_ is Format.JSON:
        print_json(users.as_data(found))
    else:
        print_table(users.COLUMNS, users.rows(found), sys.stdout)


@user.command("disable")
def disable_user(name: NameArgument, config: ConfigOption = None) -> None:
    """Give a user no more tokens."""
    _disable(name, config, disabled=True)


@user.command("enable")
def enable_user(name: NameArgument, config: ConfigOption = None) -> None:
    """Give a disabled user tokens again."""
    _disable(name, config, disabled=False)


@user.command("password")
def change_password(
    name: NameArgument,
    config: ConfigOption = None,
    password_stdin: StdinOption = False,  # noqa: FBT002 — typer asks for it
) -> None:
    """Replace a user's password, and end every login with the old one."""
    loaded = _for_users(config)
    password = _password(from_stdin=password_stdin)
    from propylon.commands import user as users  # noqa: PLC0415

    _done(lambda: users.set_password(loaded, name, password))


@user.command("remove")
def remove_user(name: NameArgument, config: ConfigOption = None) -> None:
    """Remove a user, and take their tokens back."""
    loaded = _for_users(config)
    from propylon.commands import user as users  # noqa: PLC0415

    _done(lambda: users.remove(loaded, name))


def token(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Whose it is.")] = "test",
    config: ConfigOption = None,
    scopes: ScopesOption = "",
    roles: RolesOption = "",
    email: Annotated[str, typer.Option(help="An email address.")] = "",
    expires: Annotated[str, typer.Option(help="How long it counts: 10m, 1h.")] = "10m",
) -> None:
    """Print a token to try things out with, signed with the configured secret."""
    loaded = load_config(config)
    from propylon.commands.token import CannotSign, minted  # noqa: PLC0415
    from propylon.proxy.principal import Principal  # noqa: PLC0415

    words = frozenset(scopes.split()), frozenset(roles.split())
    try:
        typer.echo(minted(loaded, Principal(subject, email, *words), expires))
    except CannotSign as error:
        give_up(str(error), UNUSABLE)


def _for_users(config: Path | None) -> Loaded:
    """Read the configuration; end before anything is asked, if it has no use for users."""
    loaded = load_config(config)
    from propylon.commands.user import Refused, check  # noqa: PLC0415

    try:
        check(loaded)
    except Refused as error:
        give_up(str(error), error.status)
    return loaded


def _disable(name: str, config: Path | None, *, disabled: bool) -> None:
    loaded = _for_users(config)
    from propylon.commands import user as users  # noqa: PLC0415

    _done(lambda: users.disable(loaded, name, disabled=disabled))


def _done(work: Callable[[], str]) -> None:
    """Say what was done, or why not."""
    from propylon.commands.user import Refused  # noqa: PLC0415

    try:
        typer.echo(work())
    except Refused as error:
        give_up(str(error), error.status)


def _password(*, from_stdin: bool) -> str:
    """Ask for a password twice, or read a line. Never an argument: those are for all to see."""
    if not from_stdin:
        if not _is_terminal():
            give_up("there is no terminal to ask for the password on: --password-stdin", UNUSABLE)
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    try:
        return sys.stdin.buffer.readline().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        give_up("the password is not UTF-8", UNUSABLE)


def _is_terminal() -> bool:
    return sys.stdin.isatty()
