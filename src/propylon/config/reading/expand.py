"""Put environment variables into values, and read scalars as YAML means them. Pure."""

import re
from collections.abc import Mapping

Scalar = str | int | float | bool | None

_REFERENCE = re.compile(
    r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<bad>\$\{)"
)
# YAML 1.2's core schema: 1.1 would read `on` as true, 010 as 8 and 1:30 as ninety.
_INT = re.compile(r"0|[-+]?[1-9][0-9]{0,17}")
_FLOAT = re.compile(r"[-+]?[0-9]{1,15}\.[0-9]{1,15}")
_WORDS: Mapping[str, bool | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


def read_scalar(text: str) -> Scalar:
    """Read a plain scalar: nothing, true or false, a decimal number, or else text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def read_variable(text: str) -> str | None:
    """Read what a variable holds: nothing, or text.

    It stays text: the models read numbers from text too, and a secret of digits is no number.
    """
    return None if text in _WORDS and _WORDS[text] is None else text


def expand(text: str, environ: Mapping[str, str], *, plain: bool) -> str | None:
    """Replace `${VAR}` and `${VAR:-default}`; `$$` is a dollar; ValueError names what is missing.

    A plain scalar that is one reference and nothing else may turn out to be nothing, so that
    `url: ${URL:-}` counts as not written.
    """
    alone = _REFERENCE.fullmatch(text)
    if alone is not None and alone["name"] and plain:
        return read_variable(_value(alone, environ))
    return _REFERENCE.sub(lambda match: _value(match, environ), text)


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match[0] == "$$":
        return "$"
    if match["bad"]:
        msg = "write ${NAME} or ${NAME:-default} for a variable, and $$ for a dollar"
        raise ValueError(msg)
    # As in a shell, `:-` also stands in for a variable that is set but empty.
    value = environ.get(match["name"])
    if match["default"] is not None:
        return value or match["default"]
    if value is None:
        msg = f"the environment variable {match['name']} is not set and has no default"
        raise ValueError(msg)
    return value
