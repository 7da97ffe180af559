"""The table of the formats that can be imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.source import Source

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what its files are, and what reads them."""

    files: str
    read: Callable[[list[Source], Draft], None]


FORMATS: Mapping[str, Format] = {}
