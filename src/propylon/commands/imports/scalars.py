"""Write single values and small collections as YAML on one line."""

from __future__ import annotations

import json
import re

from propylon.commands.imports.parts import Variable

__all__ = ["comment_lines", "flow"]

# What is the same text to every reader of YAML, and cannot be taken for a number, a truth value or nothing.
_PLAIN = re.compile(r"[A-Za-z/_](?:[A-Za-z0-9/_.*+@-]|:(?=[^\s,\]}]))*")
# Quantities with a unit, which no reader of YAML takes for a number.
_UNIT = re.compile(r"\d+(?:\.\d+)?(?:ms|s|m|h|d|%|[KMG]i?B)|\d+/[smhd]")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_SURROGATES = (0xD800, 0xDFFF)
_WIDEST = 110


def flow(value: object) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value)


def _text(value: str) -> str:
    # A dollar would be read as the beginning of a variable.
    text = value if isinstance(value, Variable) else value.replace("$", "$$")
    if _UNIT.fullmatch(text) or (_PLAIN.fullmatch(text) and text.lower() not in _WORDS):
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    """Return a character as it stands between double quotes."""
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if _SURROGATES[0] <= code <= _SURROGATES[1]:
        code = 0xFFFD  # half of a pair is no character
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def comment_lines(text: str, indent: str) -> list[str]:
    """Return a remark as lines of comment, wrapped at words. Nothing in it can leave the comment."""
    words = "".join(c if c.isprintable() else " " for c in text).split()
    lines, line = [], ""
    for word in words:
        if line and len(indent) + len(line) + len(word) > _WIDEST:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
    return [f"{indent}# {one}" for one in (*lines, line) if one]
