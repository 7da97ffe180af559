"""Do the whole import: read, translate, write, check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.formats import FORMATS
from propylon.commands.imports.overlap import review
from propylon.commands.imports.report import Report
from propylon.commands.imports.settle import settle
from propylon.commands.imports.source import Source, Unreadable, read_sources
from propylon.commands.imports.writing import written

__all__ = ["Imported", "import_files", "translate"]

# What is propylon's way with every route, whatever gateway it comes from.
_EVERYWHERE = (
    "a path that fits with another method is 405; a path that services could read as another one is 400; the gateway's own"
    " pages, such as /health, /docs and /metrics, come first; circuit and ejection are on"
)


@dataclass(frozen=True, slots=True)
class Imported:
    """The text of a propylon.yaml, and what became of each line of the original."""

    text: str
    report: Report


def import_files(form: str, paths: list[Path]) -> Imported:
    """Translate files. Raises Unreadable."""
    return translate(form, read_sources(paths))


def translate(form: str, sources: list[Source]) -> Imported:
    """Translate texts. Raises Unreadable."""
    draft = Draft(Report())
    try:
        FORMATS[form].read(sources, draft)
    except RecursionError as error:
        msg = f"{sources[0].name}: nested too deeply"
        raise Unreadable(msg) from error
    review(draft)
    draft.prune()
    draft.differs(sources[0].at(1, "all routes"), _EVERYWHERE)
    names = [source.name for source in sources]
    return Imported(settle(draft, lambda: written(draft, form, names)), draft.report)
