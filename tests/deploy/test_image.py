"""The Dockerfile, as far as it can be checked without building it. `deploy/check-image` builds it, and tries the image."""

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import typer

from propylon.cli.main import app

ROOT = Path(__file__).parents[2]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
BUILD, RUNTIME = re.split(r"(?m)^FROM .*$", DOCKERFILE)[1:]


def commands(stage: str, word: str) -> list[str]:
    """The arguments of each instruction of a kind."""
    return re.findall(rf"(?m)^{word}\s+(.*)$", stage)


def test_what_is_copied_is_there_and_is_not_ignored() -> None:
    """The context has only what .dockerignore lets through."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignore if line.startswith("!")]
    assert "*" in ignore
    copied = [name for line in commands(BUILD, "COPY") for name in line.split()[:-1]]
    assert {"requirements.txt", "src", "pyproject.toml"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [name for name in copied if not any(fnmatch(name, one) for one in kept)] == []


def test_packages_are_installed_by_hash_before_the_code_is_copied() -> None:
    """A change of the code does not install the packages anew, and none comes without its hash."""
    install = BUILD.index("-r requirements.txt")
    assert "--require-hashes" in BUILD[:install]
    assert install < BUILD.index("COPY src")
    assert commands(BUILD, "RUN")[-1].count("--no-index") == 1


def test_the_image_needs_no_shell_and_is_nobodys() -> None:
    """Each command is a list, the user is a number, and the stage runs nothing."""
    assert commands(RUNTIME, "RUN") == []
    (entry,) = commands(RUNTIME, "ENTRYPOINT")
    health = commands(RUNTIME, "HEALTHCHECK")[0].partition("CMD ")[2]
    (command,) = commands(RUNTIME.replace(health, "x"), "CMD")
    assert json.loads(entry) == ["propylon"]
    assert json.loads(command) == ["run"]
    assert commands(RUNTIME, "USER") == ["65532:65532"]
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    program, name, *options = json.loads(health)
    assert program == "propylon"
    taken = {text for one in known[name].params for text in one.opts}
    assert {option for option in options if option.startswith("-")} <= taken
