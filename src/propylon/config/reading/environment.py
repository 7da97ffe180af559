"""Read what the environment says about the configuration. Pure, but for the `.env` file."""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from dotenv import dotenv_values

from propylon.config.reading.credentials import SECRET
from propylon.config.reading.document import Unreadable, read
from propylon.config.reading.expand import read_variable
from propylon.config.reading.problems import ConfigError, Path, Problem

PREFIX = "PROPYLON_"
FILE_VARIABLE = "PROPYLON_CONFIG"
SECRET_VARIABLES = ("SECRET_KEY", "JWT_SECRET_KEY")  # the later one wins
OTHER_KEYS: tuple[Path, ...] = (("auth", "jwt", "public_key"), ("auth", "jwt", "jwks_url"))
# Taken as they are: a secret may begin with a bracket, and is no list for that.
VERBATIM: tuple[Path, ...] = (
    SECRET,
    ("auth", "introspection", "client_id"),
    ("auth", "introspection", "client_secret"),
    ("auth", "tokens", "database"),
)
# Names of the design that a later version obeys. They may stand there for another program, so they are no
# reason not to start; but whoever believes that they limit anything has to be told.
# Not REDIS_PORT: beside a service called redis, Kubernetes sets it for everybody.
NOT_BUILT = ("RATE_LIMIT_PER_SECOND", "REDIS_URL", "REDIS_HOST")
_SERVICE_URL = re.compile(r"([A-Z][A-Z0-9_]*)_SERVICE_URL")
_INDEX = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key that is set from outside the file, and by what."""

    path: Path
    value: object = field(repr=False)  # it may be a secret
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


def settings(environ: Mapping[str, str], passed_over: Container[str] = ()) -> Iterator[Setting]:
    """Yield the keys that variables set: the few plain names first, `PROPYLON_A__B` over them."""
    for name, (path, read_text) in PLAIN.items():
        if environ.get(name) and name not in passed_over:
            yield Setting(path, read_text(environ[name]), name)
    for name in sorted(environ):
        path = _named(name)
        if path:
            text = environ[name]
            yield Setting(path, (text or None) if path in VERBATIM else _value(text), name)


def not_for_us(environ: Mapping[str, str], written: object) -> Container[str]:
    """Name the variables that say something, but not to this gateway.

    Whoever verifies tokens with public keys may have a SECRET_KEY for another program.
    """
    set_by_name = {_named(name) for name, text in environ.items() if text}
    if any(path in set_by_name or _at(path, written) for path in OTHER_KEYS):
        return SECRET_VARIABLES
    return SECRET_VARIABLES[:1] if environ.get(SECRET_VARIABLES[1]) else ()


def unheard(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a doubt for each variable that would mean something to a later version."""
    for name in NOT_BUILT:
        if environ.get(name, "").strip():
            msg = "is set, but not built in this version of Propylon: nothing is limited or shared by it"
            yield Problem(name, "", msg)


def _named(name: str) -> Path:
    key = name.removeprefix(PREFIX)
    # Kubernetes sets PROPYLON_PORT=tcp://... beside a service called propylon.
    return tuple(key.lower().split("__")) if key != name and "__" in key else ()


def _at(path: Path, tree: object) -> object:
    for part in path:
        tree = _child(tree, part)
    return tree


def _value(text: str) -> object:
    if not text.lstrip().startswith(("[", "{")):
        return read_variable(text)
    try:
        document = read(text.replace("$", "$$"), {})
    except Unreadable:
        return text
    return text if document.problems else document.value


def _minutes(text: str) -> str:
    return f"{text}m" if text.isdecimal() else text


def _origins(text: str) -> object:
    if text.lstrip().startswith("["):
        return _value(text)
    return [part.strip() for part in text.split(",") if part.strip()]


PLAIN: Mapping[str, tuple[Path, Callable[[str], object]]] = {
    "PORT": (("server", "port"), read_variable),
    "WEB_CONCURRENCY": (("server", "workers"), read_variable),
    "PROPYLON_STATE_DIR": (("server", "state_dir"), read_variable),
    "LOG_LEVEL": (("log", "level"), read_variable),
    "DEBUG": (("debug",), read_variable),
    "API_V1_PREFIX": (("prefix",), read_variable),
    **dict.fromkeys(SECRET_VARIABLES, (SECRET, str)),
    "ACCESS_TOKEN_EXPIRE_MINUTES": (("auth", "tokens", "expires"), _minutes),
    "CORS_ORIGINS": (("cors", "origins"), _origins),
}


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
