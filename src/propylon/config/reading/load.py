"""Load the configuration from file, environment and command line; report every problem at once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from propylon.config.models.auth import WHILE_USERS
from propylon.config.models.endpoints import Endpoint
from propylon.config.models.schema import GatewayConfig
from propylon.config.models.syntax import prefix_of
from propylon.config.reading.check import cross_check
from propylon.config.reading.credentials import SECRET
from propylon.config.reading.document import Document
from propylon.config.reading.envfile import NAME as ENVFILE
from propylon.config.reading.envfile import read_envfile
from propylon.config.reading.environment import (
    FILE_VARIABLE,
    JWT,
    MINUTES_VARIABLE,
    SECRET_VARIABLES,
    Setting,
    clashes,
    ignored_listener,
    ignored_secrets,
    is_verbatim,
    locate,
    redis_settings,
    secret_path,
    settings,
    unread,
    value_at,
)
from propylon.config.reading.file import read_file
from propylon.config.reading.idle import find_idle
from propylon.config.reading.include import Included, include
from propylon.config.reading.keyfile import read_key_file, read_tls_files, read_user_files
from propylon.config.reading.messages import findings
from propylon.config.reading.model_keys import holds_list
from propylon.config.reading.named_services import named_services, unused_variables
from propylon.config.reading.otel import otel_settings, otel_unread
from propylon.config.reading.problems import ConfigError, Finding, Path, Places, Problem, dotted
from propylon.config.reading.rules import NOTHING_HERE, UNBRACED_VARIABLE
from propylon.config.reading.secretfile import SUFFIX
from propylon.config.reading.stray_variables import stray_variables
from propylon.config.reading.warnings import find_warnings

DEFAULT_FILE = "propylon.yaml"
COMMAND_LINE = "command line"
# The sections that say where the gateway listens.
LISTENING = ("server", "tls")
_LISTENING = [(key,) for key in LISTENING]
_NO_FILE = "the environment"
_NOTHING_HERE = (
    "there is no propylon.yaml in {}, and no NAME_SERVICE_URL is set, so the gateway has no routes; go to the"
    " directory of the file, name it with --config, or write one with `propylon init`"
)
NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration: its values, its file, the place of each value, and the warnings."""

    config: GatewayConfig
    path: FilePath | None
    places: Places
    warnings: tuple[Problem, ...] = ()
    endpoints: tuple[
        Endpoint, ...
    ] = ()  # those of a team's module (`--app`), for commands that show routes
    notes: tuple[str, ...] = ()  # what is said once, at the start, and is no doubt
    defaults: Mapping[str, object] = field(default_factory=dict, repr=False)  # as they are written
    # What it was before the routes of labels were put beside those of the file; None: there are none.
    base: "Loaded | None" = field(default=None, repr=False)

    @property
    def positions(self) -> Mapping[Path, int]:
        """The line of each value in the file, counted from 1."""
        return self.places.lines

    @property
    def source(self) -> str:
        """Where it comes from, in words: `propylon.yaml with 2 included files`."""
        if self.path is None:
            return _NO_FILE
        count = len(self.places.parts)
        included = f" with {count} included file{'' if count == 1 else 's'}"
        return f"{self.path}{included if count else ''}"


def load(
    path: FilePath | None, environ: Mapping[str, str], overrides: Mapping[str, object] = NOTHING
) -> Loaded:
    """Load the configuration from the file at `path`, the environment and `overrides`.

    Overrides have keys such as `server.port`; one that is None overrides nothing.

    Raises:
        ConfigError: the configuration cannot be used; it holds every problem.
    """
    given = _gathered(path, environ, overrides)
    document, sources, path, everything = given.document, given.sources, given.path, given.environ
    for key, message in clashes(everything, given.passed_over):
        document.fail(key, message)
    if path is None:
        sources.add_services(everything)
        sources.issue_while_users(everything)
    folder = FilePath() if path is None else path.parent
    read_key_file(document, folder)
    read_tls_files(document, folder)
    read_user_files(document, folder)
    config = _validated(document, sources.places)
    unbraced = [(at, message, UNBRACED_VARIABLE.id) for at, message in document.doubts]
    found = (*unbraced, *find_warnings(config))
    if path is None and not config.services:
        elsewhere = [Problem("", "", _NOTHING_HERE.format(FilePath.cwd()), NOTHING_HERE.id)]
    else:
        found, elsewhere = (*found, *find_idle(config)), []
    elsewhere += [*given.doubts, *sources.located(stray_variables(everything))]
    elsewhere += sources.located(unused_variables(everything, has_file=path is not None))
    warnings = (*sources.places.ordered(found), *elsewhere)
    return Loaded(
        config,
        path,
        sources.places,
        warnings,
        defaults=_mapping(_mapping(document.value).get("defaults")),
        notes=(*given.notes, *unread(everything), *otel_unread(everything)),
    )


def load_listeners(
    path: FilePath | None, environ: Mapping[str, str], overrides: Mapping[str, object] = NOTHING
) -> GatewayConfig:
    """Load only what says where the gateway listens: the sections `server` and `tls`.

    A problem of another section is passed over: a gateway that runs goes on when its file is broken by an edit.

    Raises:
        ConfigError: the file cannot be read, or one of the two sections cannot be used.
    """
    given = _gathered(path, environ, overrides)
    places, document = given.sources.places, given.document
    written = {key: part for key, part in _mapping(document.value).items() if key in LISTENING}
    found = [problem for problem in document.problems if problem[0][:1] in _LISTENING]
    config = None
    try:
        config = GatewayConfig.model_validate(written)
    except ValidationError as error:
        found += findings(error, written)
    if config is None or found:
        raise ConfigError(places.ordered(found))
    return config


@dataclass(slots=True)
class _Gathered:
    """The values of all sources, before they are checked."""

    document: Document
    sources: "_Sources"
    path: FilePath | None
    environ: Mapping[str, str]
    passed_over: tuple[str, ...]
    doubts: list[Problem]
    notes: tuple[str, ...] = ()


def _gathered(
    path: FilePath | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> _Gathered:
    dotenv, lines, doubts = read_envfile(FilePath.cwd(), environ)
    everything = {**dotenv, **environ}
    path = _chosen(path, everything)
    name = "" if path is None else str(path)
    document, included = Document(value={}), Included()
    if path is not None:
        document = read_file(path, everything)
        included = include(document, path, everything)
    written = {variable: f"{ENVFILE}:{line} {variable}" for variable, line in lines.items()}
    written = {variable: place for variable, place in written.items() if variable not in environ}
    places = Places(name, document.lines, parts=included.parts)
    sources = _Sources(document, places, written)
    passed_over = (
        *ignored_secrets(everything, document.value),
        *ignored_listener(everything, document.value),
    )
    sources.apply(redis_settings(everything))
    sources.apply(otel_settings(everything))
    sources.apply(settings(dotenv, passed_over))
    sources.apply(settings(environ, passed_over))
    sources.apply(_overridden(overrides))
    return _Gathered(document, sources, path, everything, passed_over, list(doubts), included.notes)


def _chosen(path: FilePath | None, environ: Mapping[str, str]) -> FilePath | None:
    if path is None and environ.get(FILE_VARIABLE):
        return FilePath(environ[FILE_VARIABLE])
    if path is None and FilePath(DEFAULT_FILE).exists():
        return FilePath(DEFAULT_FILE)
    return path


def _overridden(overrides: Mapping[str, object]) -> Iterator[Setting]:
    for key, value in overrides.items():
        if value is not None:
            yield Setting(tuple(key.split(".")), value, COMMAND_LINE)


class _Sources:
    """Applies the settings from outside the file, and notes where each came from."""

    def __init__(self, document: Document, places: Places, written: Mapping[str, str]) -> None:
        """`written` are the places of variables that a file sets."""
        self._document = document
        self._written = written
        self._others: dict[Path, str] = {}
        self.places = replace(places, others=self._others)

    def apply(self, layer: Iterator[Setting]) -> None:
        """Apply one source; it wins over those before it."""
        for setting in layer:
            path = locate(setting.path, self._document.value)
            if path == SECRET and setting.place.removesuffix(SUFFIX) in SECRET_VARIABLES:
                path = secret_path(self._document.value)
            self._forget(path)
            self._others[path] = self._place(setting.place)
            if setting.problem:
                self._document.fail(path, setting.problem)
            elif not _put(self._document.value, path, _listed(path, setting)):
                msg = f"there is no {dotted(path)} to set"
                self._document.fail(path, msg)

    def add_services(self, environ: Mapping[str, str]) -> None:
        """Add the services and routes that variables name; configured keys win."""
        tree: Any = self._document.value
        made = named_services(environ, prefix_of(tree.get("prefix")))
        for setting in made.places:
            self._others.setdefault(setting.path, self._place(setting.place))
        for path, message in made.problems:
            self._document.fail(path, message)
        tree["services"] = {**made.services, **_mapping(tree.get("services"))}
        tree.setdefault("routes", made.routes)

    def issue_while_users(self, environ: Mapping[str, str]) -> None:
        """Without a file, have a token endpoint only while there are users, unless a variable asks for one.

        The services of a team may well have one of their own: AUTH_SERVICE_URL.
        """
        tree, path = self._document.value, ("auth", "tokens", "enabled")
        asked = environ.get(MINUTES_VARIABLE) or value_at(path, tree) is not None
        if value_at(JWT, tree) and not asked:
            _put(tree, path, WHILE_USERS)

    def _place(self, name: str) -> str:
        return self._written.get(name, name)

    def located(self, found: Iterable[Problem]) -> Iterator[Problem]:
        """Yield problems of variables, each with the line of the file that sets it."""
        return (replace(problem, place=self._place(problem.place)) for problem in found)

    def _forget(self, path: Path) -> None:
        # What a lower source got wrong below this key no longer matters.
        document = self._document
        gone = {failed for failed in document.failed if failed[: len(path)] == path}
        document.failed -= gone
        document.problems[:] = [found for found in document.problems if found[0] not in gone]


def _listed(path: Path, setting: Setting) -> object:
    """Return the value of a setting; the text of a variable is split at commas where the key takes a list."""
    text = setting.value
    if not isinstance(text, str) or setting.place == COMMAND_LINE:
        return text
    if is_verbatim(path) or not holds_list(path):
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _put(tree: Any, path: Path, value: object) -> bool:
    for part, below in pairwise(path):
        if isinstance(tree, dict):
            if tree.get(part) is None:
                # A number is a place in a list, and only what is there can be named by it.
                if str(below).isdigit():
                    return False
                tree[part] = {}
            tree = tree[part]
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        else:
            return False
    if not path or not isinstance(tree, dict):
        return False
    tree[path[-1]] = value
    return True


def _validated(document: Document, places: Places) -> GatewayConfig:
    found = list(document.problems)
    config = None
    try:
        config = GatewayConfig.model_validate(document.value)
    except ValidationError as error:
        found += findings(error, document.value)
    found += cross_check(document.value, places.named)
    found = document.problems + [
        item for item in found[len(document.problems) :] if not _within(item[0], document.failed)
    ]
    if config is None or found:
        raise ConfigError(places.ordered(_with_variables(found, document)))
    return config


def _with_variables(found: list[Finding], document: Document) -> Iterator[Finding]:
    """Yield the findings; one about a value that a variable gave names the variable, which is what has to be changed."""
    for path, message in found:
        name = document.variables.get(path)
        yield path, message if name is None else f"{message} (the value is that of {name})"


def _within(path: Path, failed: set[Path]) -> bool:
    return any(path[:end] in failed for end in range(1, len(path) + 1))
