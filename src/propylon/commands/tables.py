"""Print rows: a drawn table on a terminal, aligned columns in a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from shutil import get_terminal_size
from typing import TextIO

__all__ = ["broken", "flowing", "print_table"]

_GAP = "   "
_INDENT = "  "
_RULE = "─"
_NARROWEST = 14


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    """Print the rows under the names of their columns."""
    if stream.isatty():
        _drawn(columns, rows, stream)
    else:
        stream.write(_aligned(columns, rows))


def _drawn(columns: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    """Draw the table in the width of the terminal: cells that are too long are broken, paths before a slash."""
    room = get_terminal_size().columns - len(_GAP) * (len(columns) - 1)
    widths = _fitting([max(map(len, cells)) for cells in zip(columns, *rows, strict=True)], room)
    lines = list(_lines(columns, widths))
    lines.append(_GAP.join(_RULE * width for width in widths))
    for row in rows:
        lines += _lines(row, widths)
    stream.write("".join(f"{line.rstrip()}\n" for line in lines))


def _fitting(widths: list[int], room: int) -> list[int]:
    """Return widths that fit: the widest columns give way first, and none below what can be read."""
    while sum(widths) > room and (widest := max(widths)) > _NARROWEST:
        widths[widths.index(widest)] -= 1
    return widths


def _lines(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Yield the lines of a row."""
    columns = [broken(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for parts in zip_longest(*columns, fillvalue=""):
        yield _GAP.join(part.ljust(width) for part, width in zip(parts, widths, strict=True))


def broken(text: str, width: int) -> list[str]:
    """Break a text into lines of that width: at a space, else before a slash, else in the middle of a word.

    Lines behind the first are indented, so that none is taken for another row.
    """
    lines, indent = [], ""
    while len(indent + text) > width:
        end = width - len(indent)
        at = text.rfind(" ", 1, end + 1)
        at = at if at > 0 else text.rfind("/", 1, end)
        if at > 0 and text[at - 1] == "[":
            at -= 1  # the mark of what is below stays whole
        at = at if at > 0 else end
        lines.append(indent + text[:at].rstrip())
        text, indent = text[at:].lstrip(), _INDENT
    return [*lines, indent + text]


def flowing(text: str, stream: TextIO) -> str:
    """Return the lines of a text for a stream: on a terminal, long ones are broken between words."""
    if not stream.isatty():
        return text
    width = get_terminal_size().columns
    lines = (line for each in text.splitlines() for line in broken(each, width))
    return "".join(f"{line}\n" for line in lines)


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [tuple(column.upper() for column in columns), *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )
