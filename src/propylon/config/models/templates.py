"""Define texts with names in them, `{claim.tenant}`, as they stand in headers, in a query and in `rewrite`."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from propylon.config.models.base import ConfigModel, as_list
from propylon.config.models.match import NOT_THE_CLIENTS
from propylon.config.models.patterns import check_no_pattern
from propylon.config.models.syntax import check_header_value, check_path, check_token
from propylon.proxy.template import BARE, Name, parse

__all__ = ["QueryConfig", "RewritePath", "Template", "names_in", "names_of_rewrite"]

_SEGMENT_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_IN_PATHS = frozenset(BARE) - {"path"}
_REST = "/{rest}"


def names_in(texts: Iterable[str]) -> list[Name]:
    """Return the names in templates that were checked."""
    return [name for text in texts for name in parse(text).names]


def names_of_rewrite(rewrite: str, path: str) -> tuple[bytes | Name, ...]:
    """Return the pieces of a checked `rewrite`, of a route with this path: `{id}` is `{path.id}` there."""
    return parse(_parsed(rewrite, path)).pieces


def _parsed(rewrite: str, path: str) -> str:
    known = path.split("/")

    def full(match: re.Match[str]) -> str:
        is_bare = match[1] in _IN_PATHS and match[0] not in known
        return match[0] if is_bare else f"{{path.{match[1]}}}"

    return _SEGMENT_NAME.sub(full, rewrite)


def _template(text: str) -> str:
    for name in names_in([text]):
        if name.kind == "header":
            check_token(name.of, "name of a header")
            if NOT_THE_CLIENTS.fullmatch(name.of.lower().replace("_", "-")):
                msg = (
                    f"has {name}, a header that the gateway reads, removes or writes itself;"
                    " the names without a dot say what it knows"
                )
                raise ValueError(msg)
    return text


def _rewrite(text: str) -> str:
    text = text.removesuffix(_REST) or "/"
    if "{rest}" in text:
        msg = (
            "has {rest} within it, and what follows the route's path always comes last; write what"
            " replaces the route's path alone"
        )
        raise ValueError(msg)
    check_no_pattern(text)
    pieces = parse(_template(_parsed(text, ""))).pieces
    plain = "".join(piece.decode() if isinstance(piece, bytes) else "x" for piece in pieces)
    check_path(plain, names=False)
    return text


Template = Annotated[str, AfterValidator(check_header_value), AfterValidator(_template)]
"""The value of a header."""
RewritePath = Annotated[str, AfterValidator(_rewrite)]
"""What replaces a part of a path."""

_Word = Annotated[str, Field(min_length=1, max_length=256)]
_Value = Annotated[str, AfterValidator(_template)]


def _as_text(value: Any) -> Any:
    # `page: 1` is a number to YAML.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_texts(value: Any) -> Any:
    return as_list(_as_text(value))


Parameters = dict[
    _Word, Annotated[_Value, BeforeValidator(_as_text, json_schema_input_type=str | int)]
]


class QueryConfig(ConfigModel):
    """Changes to the query on the way to the service. What is not named here stays as it was sent, in its order."""

    set: Parameters = Field(
        default_factory=dict,
        description="Parameters to set; they replace those of the same name. Values are texts with names in braces, as in"
        " `headers`; where one has no value, the parameter is only removed.",
    )
    add: dict[
        _Word,
        Annotated[
            tuple[_Value, ...],
            BeforeValidator(_as_texts, json_schema_input_type=str | int | list[str]),
        ],
    ] = Field(
        default_factory=dict,
        description="Parameters to put beside those that are there: a value, or a list of them.",
    )
    remove: tuple[_Word, ...] = Field(default=(), description="Parameters to remove.")

    @property
    def texts(self) -> list[str]:
        """All values."""
        return [*self.set.values(), *(text for texts in self.add.values() for text in texts)]
