"""Texts of Kong's files: references to other entities, and variables of decK."""

from __future__ import annotations

import re

from propylon.commands.imports.parts import Variable
from propylon.commands.imports.tree import Item

__all__ = ["IGNORED", "milliseconds", "name_of", "text_of"]

# What says nothing of traffic.
IGNORED = ("id", "tags", "created_at", "updated_at", "ws_id", "instance_name")
# decK replaces ${{ env "DECK_HOST" }} when it sends the file; filters may follow behind a |.
_ENV = re.compile(r"\$\{\{\s*env\s+[\"'](?P<name>[A-Za-z_]\w*)[\"'][^}]*\}\}")


def name_of(reference: Item) -> str:
    """Return what names an entity: its name or id, as a text or as a mapping with one of the two."""
    if isinstance(reference.value, dict):
        return reference.get("name").text() or reference.get("id").text()
    return reference.text()


def text_of(item: Item, default: str = "") -> str:
    """Return a text, with decK's variables as ours."""
    text = item.text(default)
    if _ENV.search(text):
        return Variable(_ENV.sub(lambda match: f"${{{match['name']}}}", text))
    return text


def milliseconds(item: Item, default: int = 60_000) -> str:
    """Return a duration for a number of milliseconds."""
    value = item.number(default)
    return f"{value / 1000:g}s" if value % 1000 == 0 else f"{value:g}ms"
