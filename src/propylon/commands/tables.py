"""Print rows: a drawn table on a terminal, aligned columns in a pipe or a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

__all__ = ["print_table"]


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    """Print the rows under the names of their columns."""
    if stream.isatty():
        _drawn(columns, rows, stream)
    else:
        stream.write(_aligned(columns, rows))


def _drawn(columns: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 — only a terminal needs it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a path's brackets are no markup
    Console(file=stream).print(table)


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [tuple(column.upper() for column in columns), *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )
