"""Parse the commands `user …` and `token`, call them, print their results. A part of `propylon.cli.main`."""

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

user = typer.Typer(no_args_is_help=True, help="Manage the users of the token endpoint.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The user's name, in any capitals.")
]
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
    full_name: Annotated[str, typer.Option(help="The user's full name.")] = "",
) -> None:
    """Add a user; asks for the password."""
    loaded = _for_users(config)
    password = _password(from_stdin=password_stdin)
    from propylon.commands import user as users  # noqa: PLC0415
    from propylon.stores.users import User  # noqa: PLC0415

    words = frozenset(scopes.split()), frozenset(roles.split())
    _run(lambda: users.add(loaded, User(name, email, full_name, *words), password))


@user.command("list")
def list_users(config: ConfigOption = None, format_: FormatOption = Format.TEXT) -> None:
    """List the users with their scopes and roles."""
    loaded = _for_users(config)
    from propylon.commands import user as users  # noqa: PLC0415
    from propylon.commands.tables import print_table  # noqa: PLC0415

    try:
        everyone = users.read_all(loaded)
    except users.UserCommandFailed as error:
        give_up(str(error), error.status)
    if format_ is Format.JSON:
        print_json(users.as_data(everyone))
    else:
        print_table(users.COLUMNS, users.rows(everyone), sys.stdout)


@user.command("disable")
def disable_user(name: NameArgument, config: ConfigOption = None) -> None:
    """Disable a user: no new tokens, and the old ones are revoked."""
    _disable(name, config, disabled=True)


@user.command("enable")
def enable_user(name: NameArgument, config: ConfigOption = None) -> None:
    """Enable a disabled user again."""
    _disable(name, config, disabled=False)


@user.command("password")
def change_password(
    name: NameArgument,
    config: ConfigOption = None,
    password_stdin: StdinOption = False,  # noqa: FBT002 — typer asks for it
) -> None:
    """Replace a user's password and revoke all tokens of the user."""
    loaded = _for_users(config)
    password = _password(from_stdin=password_stdin)
    from propylon.commands import user as users  # noqa: PLC0415

    _run(lambda: users.set_password(loaded, name, password))


@user.command("set")
def change_user(
    name: NameArgument,
    config: ConfigOption = None,
    scopes: Annotated[
        str | None, typer.Option(metavar="'READ WRITE'", help="The scopes from now on.")
    ] = None,
    roles: Annotated[
        str | None, typer.Option(metavar="'CLERK ADMIN'", help="The roles from now on.")
    ] = None,
    email: Annotated[str | None, typer.Option(help="The email address from now on.")] = None,
    full_name: Annotated[str | None, typer.Option(help="The full name from now on.")] = None,
) -> None:
    """Change a user; fewer scopes or roles end the user's logins and tokens."""
    loaded = _for_users(config)
    from propylon.commands import user as users  # noqa: PLC0415
    from propylon.stores.users import Change  # noqa: PLC0415

    if scopes is roles is email is full_name is None:
        give_up(
            "there is nothing to change; write --scopes, --roles, --email or --full-name", UNUSABLE
        )
    words = [None if text is None else frozenset(text.split()) for text in (scopes, roles)]
    wanted = Change(scopes=words[0], roles=words[1], email=email, full_name=full_name)
    _run(lambda: users.change(loaded, name, wanted))


@user.command("sessions")
def sessions_of_user(
    name: NameArgument,
    config: ConfigOption = None,
    end: Annotated[
        str | None, typer.Option(metavar="ID", help="End this session; `all` ends every one.")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """List the sessions of a user, or end them."""
    loaded = _for_users(config)
    from propylon.commands import user as users  # noqa: PLC0415
    from propylon.commands.tables import print_table  # noqa: PLC0415

    if end is not None:
        _run(lambda: users.end_sessions(loaded, name, None if end == "all" else end))
        return
    try:
        found = users.sessions(loaded, name)
    except users.UserCommandFailed as error:
        give_up(str(error), error.status)
    if format_ is Format.JSON:
        print_json(users.sessions_as_data(found))
    else:
        print_table(users.SESSION_COLUMNS, users.session_rows(found), sys.stdout)


@user.command("remove")
def remove_user(name: NameArgument, config: ConfigOption = None) -> None:
    """Remove a user and revoke all tokens of the user."""
    loaded = _for_users(config)
    from propylon.commands import user as users  # noqa: PLC0415

    _run(lambda: users.remove(loaded, name))


def token(
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="The subject of the token.")
    ] = "test",
    config: ConfigOption = None,
    scopes: ScopesOption = "",
    roles: RolesOption = "",
    email: Annotated[str, typer.Option(help="The subject's email address.")] = "",
    expires: Annotated[str, typer.Option(help="How long it is valid: 10m, 1h.")] = "10m",
) -> None:
    """Print a token for trying things out, signed with the configured secret."""
    loaded = load_config(config)
    from propylon.commands.token import TokenNotSigned, sign_token  # noqa: PLC0415
    from propylon.proxy.principal import Principal  # noqa: PLC0415

    words = frozenset(scopes.split()), frozenset(roles.split())
    try:
        typer.echo(sign_token(loaded, Principal(subject, email, *words), expires))
    except TokenNotSigned as error:
        give_up(str(error), UNUSABLE)


def _for_users(config: Path | None) -> Loaded:
    """Return the configuration. End before asking for a password if the gateway issues no tokens."""
    loaded = load_config(config)
    from propylon.commands.user import UserCommandFailed, check  # noqa: PLC0415

    try:
        check(loaded)
    except UserCommandFailed as error:
        give_up(str(error), error.status)
    return loaded


def _disable(name: str, config: Path | None, *, disabled: bool) -> None:
    loaded = _for_users(config)
    from propylon.commands import user as users  # noqa: PLC0415

    _run(lambda: users.disable(loaded, name, disabled=disabled))


def _run(work: Callable[[], str]) -> None:
    """Run the command; print what it did, or why it failed."""
    from propylon.commands.user import UserCommandFailed  # noqa: PLC0415

    try:
        typer.echo(work())
    except UserCommandFailed as error:
        give_up(str(error), error.status)


def _password(*, from_stdin: bool) -> str:
    """Ask for the password twice, or read a line. Never an argument: other users can see those (ps)."""
    if not from_stdin:
        if not _is_terminal():
            give_up(
                "there is no terminal to ask for the password on; use --password-stdin", UNUSABLE
            )
        typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return typed
    try:
        return sys.stdin.buffer.readline().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        give_up("the password is not UTF-8", UNUSABLE)


def _is_terminal() -> bool:
    return sys.stdin.isatty()
