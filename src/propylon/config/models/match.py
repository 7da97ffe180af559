"""Define `match`: what a request must have besides its path to get a route, and how two of these compare."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from propylon.config.models.base import ConfigModel, CookieName
from propylon.config.models.syntax import check_header_name
from propylon.wire.grammar import UNRESERVED

__all__ = ["NOT_THE_CLIENTS", "MatchConfig", "Values"]

# Headers that the gateway removes, or writes itself: what a client sends there never reaches a service.
NOT_THE_CLIENTS = re.compile(
    r"host|proxy.*|forwarded|x-forwarded.*|x-user-.*|x-client-cert-.*|x-real-ip|x-original-url|x-rewrite-url"
    r"|x-http-method-override|x-request-id|x-propylon-.*|traceparent|tracestate|max-forwards|x-privacy-level|dnt|sec-gpc"
    r"|authorization|expect"
)
_VISIBLE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_LONGEST = 64  # values of one condition


def _header(name: str) -> str:
    check_header_name(name)
    if name.lower() == "cookie":
        msg = "Cookie holds all cookies in one line; write match.cookies"
        raise ValueError(msg)
    if NOT_THE_CLIENTS.fullmatch(name.lower().replace("_", "-")):
        msg = f"{name} is read, removed or written by the gateway itself, so no route can be chosen by it"
        raise ValueError(msg)
    if "_" in name:
        msg = f"{name} has a _, and many frameworks take it for a -; write {name.replace('_', '-')}"
        raise ValueError(msg)
    return name


def _parameter(name: str) -> str:
    if not UNRESERVED.fullmatch(name):
        msg = f'"{name}" is no name of a parameter that can be matched; write letters, digits, ".", "_", "~" and "-"'
        raise ValueError(msg)
    return name


def _value(text: str) -> str:
    if "*" in text[:-1]:
        msg = 'a * stands only at the end of a value: "beta*" is every value that begins with beta'
        raise ValueError(msg)
    if text == "*":
        msg = "write true for any value"
        raise ValueError(msg)
    if not _VISIBLE.fullmatch(text):
        msg = "must be a value of visible ASCII characters, without spaces around it"
        raise ValueError(msg)
    return text


def _listed(value: Any) -> Any:
    """Return a list for a single value, an empty one for true, and numbers as texts: YAML reads `X-Version: 2` as one."""
    if value is True:
        return ()
    if isinstance(value, bool) or value in ([], (), {}):
        msg = "must be a value, a list of values, or true for any value"
        raise ValueError(msg)
    many = value if isinstance(value, list | tuple) else [value]
    return [str(one) if isinstance(one, int) and not isinstance(one, bool) else one for one in many]


_Value = Annotated[str, AfterValidator(_value)]
Wanted = Annotated[
    tuple[_Value, ...],
    Field(max_length=_LONGEST),
    BeforeValidator(_listed, json_schema_input_type=Literal[True] | int | str | list[str | int]),
]
"""One of these; a `*` at the end stands for every value that begins so. None: any value."""


class Values:
    """What one condition accepts, and how it compares with another one."""

    __slots__ = ("anything", "exact", "prefixes")

    def __init__(self, wanted: tuple[str, ...]) -> None:
        """Sort what was written into whole values and beginnings of them."""
        self.anything = not wanted
        self.exact = frozenset(text for text in wanted if not text.endswith("*"))
        self.prefixes = tuple(sorted({text[:-1] for text in wanted if text.endswith("*")}))

    def includes(self, other: "Values") -> bool:
        """Whether every value that the other accepts is accepted here."""
        if self.anything or other.anything:
            return self.anything
        return all(text in self.exact or self.begins(text) for text in other.exact) and all(
            map(self.begins, other.prefixes)
        )

    def meets(self, other: "Values") -> bool:
        """Whether some value is accepted by both."""
        if self.anything or other.anything:
            return True
        return (
            not self.exact.isdisjoint(other.exact)
            or any(map(self.begins, (*other.exact, *other.prefixes)))
            or any(map(other.begins, (*self.exact, *self.prefixes)))
        )

    def begins(self, text: str) -> bool:
        """Whether the text begins so."""
        return text.startswith(self.prefixes) if self.prefixes else False


class MatchConfig(ConfigModel):
    """What a request must have besides its path: all of these."""

    headers: dict[Annotated[str, AfterValidator(_header)], Wanted] = Field(
        default_factory=dict,
        description='Headers: {X-Channel: beta}, one of [beta, canary], a beginning "beta*", or true for any value.',
    )
    query: dict[Annotated[str, AfterValidator(_parameter)], Wanted] = Field(
        default_factory=dict, description="Parameters of the query, in the same way."
    )
    cookies: dict[CookieName, Wanted] = Field(
        default_factory=dict, description="Cookies, in the same way."
    )

    def conditions(self) -> list[tuple[str, str, Values]]:
        """Return each condition: its kind, the name, and the values."""
        groups: tuple[tuple[str, Mapping[str, Any]], ...] = (
            ("header", {name.lower(): wanted for name, wanted in self.headers.items()}),
            ("query", self.query),
            ("cookie", self.cookies),
        )
        return [
            (kind, name, Values(values))
            for kind, wanted in groups
            for name, values in wanted.items()
        ]

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """How specific this is; the greater one goes first.

        More conditions before fewer; of as many, whole values before beginnings, and these before `true`; then the
        longer beginnings, then fewer values.
        """
        every = [values for _, _, values in self.conditions()]
        kinds = sum(2 if one.exact and not one.prefixes else bool(one.prefixes) for one in every)
        shortest = sum(min(map(len, one.prefixes), default=0) for one in every)
        return (
            len(every),
            kinds,
            shortest,
            -sum(len(one.exact) + len(one.prefixes) for one in every),
        )

    def includes(self, other: "MatchConfig") -> bool:
        """Whether every request that has what the other asks for has what this asks for."""
        others = {(kind, name): values for kind, name, values in other.conditions()}
        return all(
            (kind, name) in others and values.includes(others[kind, name])
            for kind, name, values in self.conditions()
        )

    def meets(self, other: "MatchConfig") -> bool:
        """Whether some request has what both ask for."""
        others = {(kind, name): values for kind, name, values in other.conditions()}
        return all(
            values.meets(others[kind, name])
            for kind, name, values in self.conditions()
            if (kind, name) in others
        )
