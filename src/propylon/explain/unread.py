"""Leave out what only the running gateway knows: the documents of the services."""

from __future__ import annotations

from propylon.compile.from_document import FromDocument
from propylon.proxy.route import Authorize

__all__ = ["without_document"]


def without_document(stage: Authorize) -> tuple[Authorize, str]:
    """Return an authorize stage without the scopes of a service's document, and what to say of that.

    No document has been read here. The stage would answer 503, as a gateway that has just started does.
    """
    if not isinstance(stage, FromDocument):
        return stage, ""
    document = f'the document of "{stage.service}"'
    return stage.base, f" by the file; the gateway also asks for the scopes in {document}"
