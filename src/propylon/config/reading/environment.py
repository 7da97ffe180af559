"""Read the environment variables that set keys of the configuration.

Pure, but for the files that variables such as `JWT_SECRET_KEY_FILE` name.
"""

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from propylon.config.reading.credentials import SECRET, SECRETS
from propylon.config.reading.document import Unreadable, read
from propylon.config.reading.expand import read_variable
from propylon.config.reading.problems import Finding, Path
from propylon.config.reading.secretfile import SUFFIX, clash, read_lines

PREFIX = "PROPYLON_"
HOST = "HOST"
FILE_VARIABLE = "PROPYLON_CONFIG"
TOKEN_VARIABLE = (
    "PROPYLON_TOKEN"  # noqa: S105 — its name; read by commands that ask the running gateway
)
IMAGE_HOST = "PROPYLON_HOST"
SECRET_VARIABLES = ("SECRET_KEY", "JWT_SECRET_KEY")  # the later one wins
MINUTES_VARIABLE = "ACCESS_TOKEN_EXPIRE_MINUTES"
JWT: Path = ("auth", "jwt")
_PUBLIC = ("public_key", "jwks_url", "discovery_url")
PUBLIC_KEYS: tuple[Path, ...] = tuple((*JWT, name) for name in _PUBLIC)
# The text of these is taken as it is. Elsewhere a text that begins with a bracket is read as a list, but a secret may
# begin with one.
VERBATIM: tuple[Path, ...] = (
    *SECRETS,
    ("auth", "introspection", "client_id"),
)
# Beside a service called redis, Kubernetes sets REDIS_PORT=tcp://10.0.0.1:6379 in every pod.
_PORT = re.compile(r"[0-9]{1,5}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_INDEX = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of the configuration that is set outside the file; `place` names the variable or command line.

    `problem` says why there is no value.
    """

    path: Path
    value: object = field(repr=False)  # it may be a secret
    place: str
    problem: str = ""


def settings(environ: Mapping[str, str], ignored: Container[str] = ()) -> Iterator[Setting]:
    """Yield the keys that variables set: first those with plain names, then `PROPYLON_A__B`, which win."""
    for name, (path, read_text) in PLAIN.items():
        if name == HOST and not _is_address(environ.get(name, "")):
            continue
        if environ.get(name) and name not in ignored:
            yield Setting(path, read_text(environ[name]), name)
        elif path in SECRETS and name not in ignored:
            yield from _from_file(path, name + SUFFIX, environ)
    for name in sorted(environ):
        if path := _path_of(name):
            text = environ[name]
            yield Setting(path, (text or None) if is_verbatim(path) else _value(text), name)
        elif path := _path_of_file(name):
            yield from _from_file(path, name, environ)


def unread(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a line about HOST where it is no address: shells and conda export it for other programs."""
    text = environ.get(HOST, "")
    if text and not _is_address(text):
        yield "HOST is not read: it holds neither an IP address nor localhost"


def _is_address(text: str) -> bool:
    try:
        ip_address(text.strip())
    except ValueError:
        return text.strip() == "localhost"
    return True


def redis_settings(environ: Mapping[str, str]) -> Iterator[Setting]:
    """Yield what REDIS_HOST, REDIS_PORT and REDIS_PASSWORD say; without a host the others are for another program."""
    host, port = environ.get("REDIS_HOST", "").strip(), environ.get("REDIS_PORT", "")
    if not host:
        return
    shown = f"[{host}]" if ":" in host else host
    at = f":{port}" if _PORT.fullmatch(port) else ""
    yield Setting(("redis", "url"), f"redis://{shown}{at}", "REDIS_HOST")
    if environ.get("REDIS_PASSWORD"):
        yield Setting(("redis", "password"), environ["REDIS_PASSWORD"], "REDIS_PASSWORD")
    else:
        yield from _from_file(("redis", "password"), "REDIS_PASSWORD" + SUFFIX, environ)


def _from_file(path: Path, name: str, environ: Mapping[str, str]) -> Iterator[Setting]:
    if not environ.get(name):
        return
    try:
        found = read_lines(environ[name])
    except ValueError as error:
        yield Setting(path, None, name, f"the file cannot be used: {error}")
        return
    if _without_index(path) == SECRET or isinstance(found, str):
        yield Setting(path, found, name)
    else:
        yield Setting(path, None, name, f"the file holds {len(found)} lines; write one")


def clashes(environ: Mapping[str, str], ignored: Container[str] = ()) -> Iterator[Finding]:
    """Yield a problem for each secret that both a variable and a file set: one of them is out of date."""
    named = [(name, path) for name, (path, _) in PLAIN.items() if path in SECRETS]
    named += [
        (name, path) for name in sorted(environ) if (path := _path_of(name)) and _is_secret(path)
    ]
    for name, path in named:
        if name not in ignored and (problem := clash(name, environ)):
            yield path, problem


def ignored_secrets(environ: Mapping[str, str], written: object) -> tuple[str, ...]:
    """Return the secret variables that do not set the gateway's secret.

    With a public key configured, SECRET_KEY belongs to another program. And JWT_SECRET_KEY wins over SECRET_KEY.
    """
    set_by_name = {_path_of(name) for name, text in environ.items() if text}
    entries = value_at(JWT, written)
    if isinstance(entries, list) and all(map(_has_public_key, entries)):
        return SECRET_VARIABLES
    if any(path in set_by_name or value_at(path, written) for path in PUBLIC_KEYS):
        return SECRET_VARIABLES
    specific = SECRET_VARIABLES[1]
    return SECRET_VARIABLES[:1] if environ.get(specific) or environ.get(specific + SUFFIX) else ()


def ignored_listener(environ: Mapping[str, str], written: object) -> tuple[str, ...]:
    """Return those of HOST, PORT and PROPYLON_HOST that do not say where the gateway listens.

    Where there is a list of listeners, it may name the port itself: `0.0.0.0:${PORT}`. Platforms set HOST and PORT in any
    case. PROPYLON_SERVER__PORT is meant for the gateway, and stays a contradiction. PROPYLON_HOST is the default of an
    image: everything else wins over it.
    """
    set_by_name = {_path_of(name) for name, text in environ.items() if text}

    def is_said(key: str) -> bool:
        path = ("server", key)
        return bool(value_at(path, written)) or path in set_by_name

    listed = is_said("listen")
    ignored = (HOST, "PORT") if listed else ()
    other = listed or is_said("host") or _is_address(environ.get(HOST, ""))
    return (*ignored, IMAGE_HOST) if other else ignored


def _without_index(path: Path) -> Path:
    # auth.jwt may be a list: PROPYLON_AUTH__JWT__0__SECRET.
    return tuple(part for part in path if not str(part).isdigit())


def is_verbatim(path: Path) -> bool:
    """Whether the text of a variable for this key is taken as it is."""
    return _without_index(path) in VERBATIM


def _is_secret(path: Path) -> bool:
    return _without_index(path) in SECRETS


def secret_path(written: object) -> Path:
    """Return the key that JWT_SECRET_KEY sets: `auth.jwt.secret`, or that of the entry that has no other key.

    An entry without any key comes first, then the first that has a secret in the file.
    """
    entries = value_at(JWT, written)
    if not isinstance(entries, list):
        return SECRET
    keyless = [at for at, entry in enumerate(entries) if not _has_public_key(entry)]
    bare = [at for at in keyless if not value_at(("secret",), entries[at])]
    return (*JWT, next(iter((*bare, *keyless)), 0), "secret")


def _has_public_key(entry: object) -> bool:
    return any(value_at((name,), entry) for name in _PUBLIC)


def _path_of(name: str) -> Path:
    key = name.removeprefix(PREFIX)
    # Only names with `__` are keys: beside a service called propylon, Kubernetes sets PROPYLON_PORT=tcp://...
    if key == name or "__" not in key or _path_of_file(name):
        return ()
    return tuple(key.lower().split("__"))


def _path_of_file(name: str) -> Path:
    """Return the secret that a variable sets by naming a file: `PROPYLON_AUTH__JWT__SECRET_FILE`."""
    named = name.removesuffix(SUFFIX)
    path = tuple(named.removeprefix(PREFIX).lower().split("__"))
    return path if named != name and named.startswith(PREFIX) and _is_secret(path) else ()


def value_at(path: Path, tree: object) -> object:
    """Return what a raw configuration has at the path; None where that is nothing."""
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


def _per_second(text: str) -> object:
    """Return the limit that a number stands for: so many a second, and twice as many at once."""
    text = text.strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text) is None:
        return {"rate": text, "burst": 1}  # which the model refuses, and says what to write
    return {"rate": f"{text}/s", "burst": 2 * int(text)}


PLAIN: Mapping[str, tuple[Path, Callable[[str], object]]] = {
    HOST: (("server", "host"), str.strip),
    "PORT": (("server", "port"), read_variable),
    IMAGE_HOST: (("server", "host"), read_variable),
    "WEB_CONCURRENCY": (("server", "workers"), read_variable),
    "PROPYLON_STATE_DIR": (("server", "state_dir"), read_variable),
    "LOG_LEVEL": (("log", "level"), read_variable),
    "DEBUG": (("debug",), read_variable),
    "API_V1_PREFIX": (("prefix",), read_variable),
    **dict.fromkeys(SECRET_VARIABLES, (SECRET, str)),
    MINUTES_VARIABLE: (("auth", "tokens", "expires"), _minutes),
    "CORS_ORIGINS": (("cors", "origins"), _value),
    "REDIS_URL": (("redis", "url"), read_variable),
    "RATE_LIMIT_PER_SECOND": (("defaults", "rate_limit"), _per_second),
}


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
