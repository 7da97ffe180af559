"""Define the base of all configuration models, and the kinds of text in them."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from propylon.config.models.patterns import check_no_pattern
from propylon.config.models.syntax import (
    check_cookie_name,
    check_header_name,
    check_header_value,
    check_hostname,
    check_method,
    check_network,
    check_path,
    check_url,
)
from propylon.config.models.token_syntax import check_claim_header

__all__ = [
    "Claims",
    "ConfigModel",
    "CookieName",
    "HeaderName",
    "HeaderValue",
    "Method",
    "Network",
    "OneOrMany",
    "PlainPath",
    "RouteHost",
    "RoutePath",
    "Url",
    "as_list",
    "blank_to_none",
]


class ConfigModel(BaseModel):
    """A mapping of the file. A key without a value counts as not written."""

    # pydantic quotes the rejected input in its messages, and the input may be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        return {key: value for key, value in data.items() if value is not None or key not in known}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # pydantic copies a default that cannot be hashed, and headers hold dictionaries: for each route three
        # models that cannot be changed. That was two thirds of the time, and of the memory, of thousands of routes.
        return self


def blank_to_none(value: object) -> object:
    """Return None for blank text: `"${SECRET:-}"` with an unset variable counts as a key without a value."""
    return None if isinstance(value, str) and not value.strip() else value


def as_list(value: object) -> object:
    """Return a list for a single text, and an empty list for blank text."""
    if not isinstance(value, str):
        return value
    return [value] if value.strip() else []


def _route_path(text: str) -> str:
    return check_path(check_no_pattern(text), names=True)


def _route_host(text: str) -> str:
    below = text.removeprefix("*.")
    return check_hostname(text) if below == text else f"*.{check_hostname(below)}"


def _plain_path(text: str) -> str:
    return check_path(text, names=False)


Url = Annotated[str, AfterValidator(check_url), Field(json_schema_extra={"format": "uri"})]
RoutePath = Annotated[str, AfterValidator(_route_path)]
PlainPath = Annotated[str, AfterValidator(_plain_path)]
Method = Annotated[str, AfterValidator(check_method)]
RouteHost = Annotated[str, AfterValidator(_route_host)]
"""A host name, or `*.example.com` for all names below one."""
Network = Annotated[str, AfterValidator(check_network)]
CookieName = Annotated[str, AfterValidator(check_cookie_name)]
HeaderName = Annotated[str, AfterValidator(check_header_name)]
HeaderValue = Annotated[str, AfterValidator(check_header_value)]
Word = Annotated[str, Field(min_length=1)]
Claims = dict[Annotated[str, AfterValidator(check_claim_header)], Word]
"""Headers, and the dotted paths of the claims that they carry."""
OneOrMany = Annotated[
    tuple[Word, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])
]
"""A list of texts; a single one needs no brackets."""
