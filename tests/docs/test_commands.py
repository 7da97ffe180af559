"""Commands in the documentation: each exists, and takes the options that it is shown with."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from propylon.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/README.md")]
)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
_CONSOLE = re.compile(r"(?ms)^ *```console\n(.*?)^ *```")
_INLINE = re.compile(r"`((?:propylon|make) [^`\n]+)`")
# What a shell makes of a line is not checked beyond here.
_END = re.compile(r"\s(?:[|;&>#]|2>)")


def lines(page: Path) -> Iterator[str]:
    """Every line that a reader may copy: of console blocks after the prompt, and code within a sentence."""
    text = page.read_text(encoding="utf-8")
    for block in _CONSOLE.findall(text):
        whole = block.replace("\\\n", " ")
        yield from (
            line.strip()[2:] for line in whole.splitlines() if line.strip()[:2] in {"$ ", "# "}
        )
    yield from _INLINE.findall(_CONSOLE.sub("", text))


def called(line: str, program: str) -> list[str] | None:
    """The arguments of a program on a line, or None; variables may stand before it, and a path."""
    try:
        words = shlex.split(_END.split(line)[0])
    except ValueError:  # a quote that the cut has opened
        return None
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    return words[1:] if words and words[0].rpartition("/")[2] == program else None


def problem(arguments: list[str]) -> str:
    """What is wrong with a command line of propylon's; empty if nothing is."""
    command: Any = typer.main.get_command(app)
    names = [word for word in arguments if word not in {"…", "..."}]
    while hasattr(command, "commands") and names and not names[0].startswith("-"):
        found = command.commands.get(names.pop(0))
        if found is None:
            return "no such command"
        command = found
    known = {text for one in command.params for text in (*one.opts, *one.secondary_opts)}
    known |= {"--help", "-h"}
    used = {word.partition("=")[0] for word in names if word.startswith("-") and word != "-"}
    return f"no option {sorted(used - known)}" if used - known else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_those_of_the_program(page: Path) -> None:
    """A command or an option that was renamed would send a reader into an error."""
    wrong = {
        line: said
        for line in lines(page)
        if (arguments := called(line, "propylon")) is not None and (said := problem(arguments))
    }
    assert wrong == {}


def test_targets_of_make_are_there() -> None:
    """The same for `make`."""
    targets = set(re.findall(r"(?m)^([a-z-]+):", MAKEFILE))
    named = {
        arguments[0]
        for page in PAGES
        for line in lines(page)
        if (arguments := called(line, "make")) and re.fullmatch(r"[a-z-]+", arguments[0])
    }
    assert {"demo", "test", "site"} <= named
    assert named - targets == set()


def test_the_check_itself() -> None:
    """It finds a command, an option and a subcommand that are not there."""
    assert problem(["health", "--live", "--address", "a:1"]) == ""
    assert problem(["user", "add", "ann", "--scopes", "read"]) == ""
    assert problem(["wealth"]) == "no such command"
    assert problem(["user", "promote"]) == "no such command"
    assert problem(["run", "--speed"]) == "no option ['--speed']"
    assert called("PORT=1 .venv/bin/propylon run --reload | tee log", "propylon") == [
        "run",
        "--reload",
    ]
    assert called("curl propylon", "propylon") is None
