r"""Read a file that is JSON, as programs write it, without the YAML parser. Pure.

YAML holds all of JSON, and `json` reads a file of thousands of routes in a thirtieth of the time. The two differ in a few
things: escapes, letters beyond ASCII, keys that stand twice or are a kilobyte long, a line that ends before a colon, tabs,
and how deep it goes. A text with any of these is left to the parser.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NoReturn

from propylon.config.reading.expand import expand, read_scalar, unbraced
from propylon.config.reading.lines import Path
from propylon.config.reading.secretfile import SUFFIX

__all__ = ["all_on_one", "read_json"]

_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")
_COLON_BELOW = re.compile(r"\n[ \n]*:")
_BRACKET = re.compile(r"[\[{}\]]")
# The parser takes no longer key, and no key of the configuration is near that.
_LONGEST = 1000
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_Pairs = list[tuple[str, object]]


def read_json(text: str, environ: Mapping[str, str], deepest: int) -> dict[str, object] | None:
    """Read a text that means the same as JSON and as YAML, variables put in; None for any other.

    `deepest` is how many levels there may be.
    """
    if not text.lstrip(" \n").startswith("{") or not _means_the_same(text, deepest):
        return None
    if _is_for_yaml(text, environ):
        return None
    try:
        read: dict[str, object] = json.loads(
            text,
            object_pairs_hook=_with(environ) if "$" in text else _object,
            # The words for numbers are fewer than in JSON: 1e5 is text.
            parse_float=read_scalar,
            parse_int=read_scalar,
            parse_constant=_refuse,
        )
    except ValueError:  # no JSON, or a variable that is not there: who reads YAML says it
        return None
    return read


def all_on_one(text: str) -> dict[Path, int]:
    """Return the line of each value of a text of one line, in order."""
    return dict.fromkeys(((), *_paths((), json.loads(text))), 1)


def _paths(path: Path, value: object) -> Iterator[Path]:
    parts: Iterable[tuple[str | int, object]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    for part, below in parts:
        yield (*path, part)
        yield from _paths((*path, part), below)


def _means_the_same(text: str, deepest: int) -> bool:
    if not text.isascii() or not text.replace("\n", "").isprintable() or "\\" in text:
        return False
    # Without escapes, each quote begins a text or ends one.
    parts = text.split('"')
    if max(map(len, parts)) > _LONGEST or _COLON_BELOW.search(text):
        return False
    brackets = _BRACKET.findall("".join(parts[::2]))
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) <= deepest


def _is_for_yaml(text: str, environ: Mapping[str, str]) -> bool:
    # Where a reference means a file, and what is to be doubted, is the YAML parser's to say: it knows the paths of values.
    if "$" in text and unbraced(text):
        return True
    return "$" in text and any(environ.get(f"{name}{SUFFIX}") for name in _NAME.findall(text))


def _object(pairs: _Pairs) -> dict[str, object]:
    read = dict(pairs)
    if len(read) != len(pairs):
        msg = "a key stands twice"
        raise ValueError(msg)
    return read


def _with(environ: Mapping[str, str]) -> Callable[[_Pairs], dict[str, object]]:
    def put_in(value: object) -> object:
        if isinstance(value, str) and "$" in value:
            return expand(value, environ, plain=False)
        return [put_in(item) for item in value] if isinstance(value, list) else value

    return lambda pairs: _object([(key, put_in(value)) for key, value in pairs])


def _refuse(word: str) -> NoReturn:
    msg = f"{word} is no number"
    raise ValueError(msg)
