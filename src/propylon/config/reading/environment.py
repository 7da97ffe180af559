"""Read the environment variables and the `.env` file that set keys of the configuration. Pure, but for `.env`."""

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
JWT: Path = ("auth", "jwt")
_PUBLIC = ("public_key", "jwks_url", "discovery_url")
PUBLIC_KEYS: tuple[Path, ...] = tuple((*JWT, name) for name in _PUBLIC)
# The text of these is taken as it is. Elsewhere a text that begins with a bracket is read as a list, but a secret may
# begin with one.
VERBATIM: tuple[Path, ...] = (
    SECRET,
    ("auth", "introspection", "client_id"),
    ("auth", "introspection", "client_secret"),
    ("auth", "tokens", "database"),
)
# Variables that a later version will obey. They may be meant for another program, so they are no problem; but an
# operator who believes that they limit requests has to be warned. REDIS_PORT is not among them: beside a service
# called redis, Kubernetes sets it in every pod.
NOT_BUILT = ("RATE_LIMIT_PER_SECOND", "REDIS_URL", "REDIS_HOST")
_SERVICE_URL = re.compile(r"([A-Z][A-Z0-9_]*)_SERVICE_URL")
_INDEX = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of the configuration that is set outside the file; `place` names the variable or command line."""

    path: Path
    value: object = field(repr=False)  # it may be a secret
    place: str


def read_dotenv(directory: FilePath) -> dict[str, str]:
    """Return the variables of the directory's `.env` file; none if there is no file. Raises ConfigError."""
    path = directory / ".env"
    if not path.is_file():
        return {}
    try:
        # `${}` in it is left alone; only the configuration file's references are expanded.
        values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([Problem(".env", "", f"cannot be read: {reason}")]) from error
    return {name: value for name, value in values.items() if value is not None}


def settings(environ: Mapping[str, str], ignored: Container[str] = ()) -> Iterator[Setting]:
    """Yield the keys that variables set: first those with plain names, then `PROPYLON_A__B`, which win."""
    for name, (path, read_text) in PLAIN.items():
        if environ.get(name) and name not in ignored:
            yield Setting(path, read_text(environ[name]), name)
    for name in sorted(environ):
        path = _path_of(name)
        if path:
            text = environ[name]
            yield Setting(path, (text or None) if _is_verbatim(path) else _value(text), name)


def ignored_secrets(environ: Mapping[str, str], written: object) -> Container[str]:
    """Return the secret variables that do not set the gateway's secret.

    With a public key configured, SECRET_KEY belongs to another program. And JWT_SECRET_KEY wins over SECRET_KEY.
    """
    set_by_name = {_path_of(name) for name, text in environ.items() if text}
    entries = _value_at(JWT, written)
    if isinstance(entries, list) and all(map(_has_public_key, entries)):
        return SECRET_VARIABLES
    if any(path in set_by_name or _value_at(path, written) for path in PUBLIC_KEYS):
        return SECRET_VARIABLES
    return SECRET_VARIABLES[:1] if environ.get(SECRET_VARIABLES[1]) else ()


def unbuilt_warnings(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield a warning for each variable that only a later version obeys."""
    for name in NOT_BUILT:
        if environ.get(name, "").strip():
            msg = (
                "is set, but this version of Propylon does not use it: it limits and shares nothing"
            )
            yield Problem(name, "", msg)


def _is_verbatim(path: Path) -> bool:
    # auth.jwt may be a list: PROPYLON_AUTH__JWT__0__SECRET.
    return tuple(part for part in path if not str(part).isdigit()) in VERBATIM


def secret_path(written: object) -> Path:
    """Return the key that JWT_SECRET_KEY sets: `auth.jwt.secret`, or that of the entry that has no other key.

    An entry without any key comes first, then the first that has a secret in the file.
    """
    entries = _value_at(JWT, written)
    if not isinstance(entries, list):
        return SECRET
    keyless = [at for at, entry in enumerate(entries) if not _has_public_key(entry)]
    bare = [at for at in keyless if not _value_at(("secret",), entries[at])]
    return (*JWT, next(iter((*bare, *keyless)), 0), "secret")


def _has_public_key(entry: object) -> bool:
    return any(_value_at((name,), entry) for name in _PUBLIC)


def _path_of(name: str) -> Path:
    key = name.removeprefix(PREFIX)
    # Only names with `__` are keys: beside a service called propylon, Kubernetes sets PROPYLON_PORT=tcp://...
    return tuple(key.lower().split("__")) if key != name and "__" in key else ()


def _value_at(path: Path, tree: object) -> object:
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
    """Return a service and a route for each `NAME_SERVICE_URL`; `_` in a name becomes `-`."""
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
    """Return the path of the keys that a variable's words mean: `my_service` may stand for `my-service`."""
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
