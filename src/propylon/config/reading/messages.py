"""Put pydantic's validation errors into plain words for the operator. Pure."""

import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from propylon.config.models.foreign import called_here
from propylon.config.models.schema import DefaultsConfig, RouteConfig
from propylon.config.models.spelling import did_you_mean
from propylon.config.reading.model_keys import homes, keys, model_at
from propylon.config.reading.problems import Path

_KINDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    list: "a list",
    type(None): "nothing",
}
_OFF = ("off", "no", "false")
# Sections that a message can name without confusing more than it helps.
_FEW = 3


def findings(error: ValidationError, written: object) -> Iterator[tuple[Path, str]]:
    """Yield path and message of each error once, at the place where the operator wrote the value."""
    for detail in error.errors(include_url=False):
        path = detail["loc"]
        if path and path[-1] == "[key]":
            path = path[:-1]
        # The model reads a list for all services as the rules of the service "".
        if path[:3] == ("registry", "allow", ""):
            path = (*path[:2], *path[3:])
        # pydantic does not count invalid items, and so calls a list of them too short.
        miscounted = detail["type"] == "too_short" and detail["input"]
        # A default that depends on other keys could not be computed, since those are wrong: one message is enough.
        implied = detail["type"] == "default_factory_not_called"
        if not miscounted and not implied and not _comes_from_defaults(path, written):
            yield _as_written(path, written), _message(detail, path)


def _as_written(path: Path, written: object) -> Path:
    # A single value may stand where a list may: it has no place in a list.
    for end in range(len(path)):
        single = isinstance(path[end], int) and not _exists(path[: end + 1], written)
        if single and _exists(path[:end], written):
            return _as_written((*path[:end], *path[end + 1 :]), written)
    return path


def _comes_from_defaults(path: Path, written: object) -> bool:
    # Each route repeats the values of `defaults`, so an error in `defaults` would be reported for each route.
    if len(path) < 3 or path[0] != "routes" or _exists(path, written):
        return False
    return _exists(("defaults", *path[2:]), written)


def _exists(path: Path, written: Any) -> bool:
    for part in path:
        mapped = isinstance(written, dict) and part in written
        listed = isinstance(written, list) and isinstance(part, int) and part < len(written)
        if not mapped and not listed:
            return False
        written = written[part]
    return True


def _message(detail: ErrorDetails, path: Path) -> str:
    say = _SENTENCES.get(detail["type"])
    return detail["msg"] if say is None else say(detail, path)


def _unknown(_: ErrorDetails, path: Path) -> str:
    model, key = model_at(path[:-1]), str(path[-1])
    if model is None:
        return "unknown key"
    if model is DefaultsConfig and key in RouteConfig.model_fields:
        return "belongs to one route, and has no default"
    known = called_here(model.__name__, key) or did_you_mean(key, keys(model))
    return "unknown key" + (known or _belongs(key))


def _belongs(key: str) -> str:
    """Return where a key of this name may stand; nothing if that is nowhere, or in too many sections to be of help."""
    found = homes(key)
    return f"; it belongs to {' or '.join(found)}" if 0 < len(found) <= _FEW else ""


def _choice(detail: ErrorDetails, _: Path) -> str:
    choices = typing.cast("str", detail["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
    known = choices.split(", ")
    given = detail["input"]
    # YAML reads off, no and false as one; a person who writes them means none.
    if "none" in known and (given is False or given in _OFF):
        return f"must be one of {choices}; write none"
    hint = did_you_mean(given, known) if isinstance(given, str) else ""
    return f"must be one of {choices}{hint}"


def _bool(detail: ErrorDetails, path: Path) -> str:
    said = "must be true or false"
    if path[-1:] == ("circuit",) and isinstance(detail["input"], dict):
        return f"{said}; the numbers of a breaker belong to services.NAME.circuit"
    return said


def _must_be(what: str) -> Callable[[ErrorDetails, Path], str]:
    def say(detail: ErrorDetails, _: Path) -> str:
        given = _KINDS.get(type(detail["input"]), "something else")
        return f"must be {what}, not {given}"

    return say


def _text(detail: ErrorDetails, path: Path) -> str:
    said = _must_be("text")(detail, path)
    return f"{said}; put it in quotes" if isinstance(detail["input"], int | float) else said


def _list(detail: ErrorDetails, path: Path) -> str:
    said = _must_be("a list")(detail, path)
    return f"{said}; put it in [ ]" if isinstance(detail["input"], str) else said


def _bound(words: str, key: str) -> Callable[[ErrorDetails, Path], str]:
    return lambda detail, _: f"must be {words} {_with_unit(detail['ctx'][key])}"


def _with_unit(bound: object) -> str:
    # The only bounds that are floats are those of durations.
    return f"{bound:g} s" if isinstance(bound, float) else str(bound)


_SENTENCES: Mapping[str, Callable[[ErrorDetails, Path], str]] = {
    "extra_forbidden": _unknown,
    "missing": lambda _, __: "is missing",
    "literal_error": _choice,
    "string_type": _text,
    "bool_type": _bool,
    "bool_parsing": _bool,
    "tuple_type": _list,
    "dict_type": _must_be("a mapping of keys to values"),
    "model_type": _must_be("a mapping of keys to values"),
    "model_attributes_type": _must_be("a mapping of keys to values"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
    "too_long": lambda detail, _: f"has more than {detail['ctx']['max_length']} entries; write fewer",
    "too_short": lambda _, __: "is empty; leave the key out to match all",
    "string_too_short": lambda _, __: "must not be empty",
    "string_pattern_mismatch": lambda _, __: (
        "must be a name of letters, digits, and any of . _ - after the first"
    ),
    "value_error": lambda detail, _: str(detail["ctx"]["error"]),
}
