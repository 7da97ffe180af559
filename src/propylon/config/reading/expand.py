"""Replace environment variables in values, and read plain scalars by YAML 1.2. Pure."""

import re
from collections.abc import Mapping

Scalar = str | int | float | bool | None

_REFERENCE = re.compile(
    r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<bad>\$\{)"
)
# As a shell would expand it. Variables are written in capitals, and $1 or $ref are something else.
_UNBRACED = re.compile(r"(?<!\$)(?:\$\$)*\$(?P<name>[A-Z_][A-Z0-9_]+)\b")
# YAML 1.2's core schema. YAML 1.1 reads `on` as true, 010 as 8 and 1:30 as ninety, which surprises operators.
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
    """Return what a plain scalar means: None, a boolean, a decimal number, or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def read_variable(text: str) -> str | None:
    """Return the text of a variable; None if it is empty or `null`.

    Numbers stay text, which the models can read: a secret that consists of digits must not become a number.
    """
    return None if text in _WORDS and _WORDS[text] is None else text


def unbraced(text: str) -> str:
    """Return the name of a variable that is written without braces, as in a shell; empty if there is none."""
    match = _UNBRACED.search(text)
    return "" if match is None else match["name"]


def expand(text: str, environ: Mapping[str, str], *, plain: bool) -> str | None:
    """Replace `${VAR}` and `${VAR:-default}` in a text; `$$` is a dollar sign.

    A plain scalar that is only one reference may become None, so that `url: ${URL:-}` counts as not written.
    Raises ValueError for a variable that is not set and has no default.
    """
    alone = _REFERENCE.fullmatch(text)
    if alone is not None and alone["name"] and plain:
        return read_variable(_value(alone, environ))
    return _REFERENCE.sub(lambda match: _value(match, environ), text)


def references(text: str) -> list[str]:
    """Return the names of the variables that a text refers to."""
    return [match["name"] for match in _REFERENCE.finditer(text) if match["name"]]


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match[0] == "$$":
        return "$"
    if match["bad"]:
        msg = "write ${NAME} or ${NAME:-default} for a variable, and $$ for a dollar"
        raise ValueError(msg)
    # As in a shell, `:-` also replaces a variable that is set but empty.
    value = environ.get(match["name"])
    if match["default"] is not None:
        return value or match["default"]
    if value is None:
        msg = f"the environment variable {match['name']} is not set and has no default"
        raise ValueError(msg)
    return value
