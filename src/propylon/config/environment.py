"""Read what the environment says about the configuration. Pure, but for the `.env` file."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

from dotenv import dotenv_values

from propylon.config.document import Unreadable, read
from propylon.config.expand import read_scalar
from propylon.config.problems import ConfigError, Path, Problem

PREFIX = "PROPYLON_"
FILE_VARIABLE = "PROPYLON_CONFIG"
PLAIN: Mapping[str, Path] = {
    "PORT": ("server", "port"),
    "WEB_CONCURRENCY": ("server", "workers"),
    "LOG_LEVEL": ("log", "level"),
    "DEBUG": ("debug",),
    "API_V1_PREFIX": ("prefix",),
}
_SERVICE_URL = re.compile(r"([A-Z][A-Z0-9_]*)_SERVICE_URL")
_INDEX = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key that is set from outside the file, and by what."""

    path: Path
    value: object
    place: str


def read_dotenv(directory: FilePath) -> dict[str, str]:
    """Read the directory's `.env`, if there is one."""
    path = directory / ".env"
    if not path.is_file():
        return {}
    try:
        # What `$` means in it is for the file that refers to it to say.
        values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([Problem(".env", "", f"cannot be read: {reason}")]) from error
    return {name: value for name, value in values.items() if value is not None}


def settings(environ: Mapping[str, str]) -> Iterator[Setting]:
    """Yield the keys that variables set: the few plain names first, `PROPYLON_A__B` over them."""
    for name, path in PLAIN.items():
        if environ.get(name):
            yield Setting(path, read_scalar(environ[name]), name)
    for name in sorted(environ):
        key = name.removeprefix(PREFIX)
        # Kubernetes sets PROPYLON_PORT=tcp://… beside a service called propylon.
        if key != name and "__" in key:
            parts = tuple(key.lower().split("__"))
            yield Setting(parts, _value(environ[name]), name)


def _value(text: str) -> object:
    if not text.lstrip().startswith(("[", "{")):
        return read_scalar(text)
    try:
        document = read(text.replace("$", "$$"), {})
    except Unreadable:
        return text
    return text if document.problems else document.value


def services(environ: Mapping[str, str], prefix: str) -> tuple[dict[str, object], list[Setting]]:
    """Make a service and a route of every `NAME_SERVICE_URL`; `_` in a name becomes `-`."""
    named = sorted(
        (match[1].lower().replace("_", "-"), variable)
        for variable in environ
        if environ[variable] and (match := _SERVICE_URL.fullmatch(variable))
    )
    written = {
        "services": {name: {"url": environ[variable]} for name, variable in named},
        "routes": [
            {"name": name, "path": f"{prefix}/{name}", "service": name, "strip_prefix": True}
            for name, _ in named
        ],
    }
    places = [Setting(("services", name), None, variable) for name, variable in named]
    places += [Setting(("routes", at), None, variable) for at, (_, variable) in enumerate(named)]
    return dict(written), places


def locate(path: Path, tree: object) -> Path:
    """Find which keys of the tree a variable's words mean: `my_service` may be `my-service`."""
    found: Path = ()
    for word in path:
        part = _matching(str(word), tree)
        found = (*found, part)
        tree = _child(tree, part)
    return found


def _matching(word: str, tree: object) -> str | int:
    if isinstance(tree, list) and _INDEX.fullmatch(word):
        return int(word)
    if isinstance(tree, dict) and word not in tree:
        return next((key for key in tree if key.lower().replace("-", "_") == word), word)
    return word


def _child(tree: object, part: str | int) -> object:
    if isinstance(tree, dict):
        return tree.get(part)
    if isinstance(tree, list) and isinstance(part, int) and part < len(tree):
        return tree[part]
    return None
