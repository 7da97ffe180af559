"""Read the file as a whole."""

from __future__ import annotations

import re

from propylon.commands.imports.draft import Draft
from propylon.commands.imports.krakend.endpoints import Endpoints
from propylon.commands.imports.krakend.root import read_root
from propylon.commands.imports.source import Source
from propylon.commands.imports.tree import parse

__all__ = ["read"]

_VERSION = "3"
_TEMPLATE = re.compile(r"\{\{[-\s]*(?:\.|include|template|marshal|env|range|if)")


def read(sources: list[Source], draft: Draft) -> None:
    """Read one krakend.json."""
    if len(sources) > 1:
        raise sources[1].refuse(1, "write one file: KrakenD reads one")
    source = sources[0]
    if template := _TEMPLATE.search(source.text):
        line = source.text.count("\n", 0, template.start()) + 1
        raise source.refuse(
            line, "a template; write the result of `krakend check -d`, with FC_OUT, and import that"
        )
    document = parse(source)
    if document.get("version").text() != _VERSION or not isinstance(
        document.get("endpoints").value, list
    ):
        raise source.refuse(
            1, "not a configuration of KrakenD 3: it needs `version` 3 and a list `endpoints`"
        )
    endpoints = Endpoints(draft, document)
    for endpoint in document.get("endpoints").each():
        endpoints.read(endpoint)
    endpoints.validators.finish()
    read_root(document, draft)
