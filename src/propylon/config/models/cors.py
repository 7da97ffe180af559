"""Define the section `cors`: which pages of other origins may read the answers."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel, as_list
from propylon.config.models.origins import ANY, check_origin
from propylon.config.models.syntax import check_method, check_token
from propylon.config.models.units import Duration

__all__ = ["CorsConfig", "RouteCors"]


def _header(text: str) -> str:
    return check_token(text, "name of a header")


def _cors_method(text: str) -> str:
    if text == "WEBSOCKET":
        msg = "WEBSOCKET cannot stand here: CORS does not apply to WebSockets; take it out"
        raise ValueError(msg)
    return text if text == ANY else check_method(text)


def _any_to_empty(value: object) -> object:
    # An empty list allows everything here. FastAPI's users write ["*"] for that.
    has_any = value == ANY or (isinstance(value, list | tuple) and ANY in value)
    return [] if has_any else value


def _any_alone(value: object) -> object:
    value = as_list(value)
    return [ANY] if isinstance(value, list | tuple) and ANY in value else value


Origin = Annotated[str, AfterValidator(check_origin)]
Origins = Annotated[
    tuple[Origin, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])
]
Header = Annotated[str, AfterValidator(_header)]
CorsMethod = Annotated[str, AfterValidator(_cors_method)]


class CorsConfig(ConfigModel):
    """Which pages of other origins may read the answers (the Fetch standard, 3.2)."""

    credentials: bool = Field(
        default=False, description="Whether pages may send cookies and client certificates."
    )
    origins: Origins = Field(
        default=(),
        description="Origins of those pages: [https://app.example.com, 'https://*.example.com'], or '*' for all."
        " When empty, CORS is off.",
    )
    methods: Annotated[tuple[CorsMethod, ...], BeforeValidator(_any_alone)] = Field(
        default=(),
        description="Methods that pages may use, or '*' for the one that a page asks for. When not set: those of the route, and"
        " the one asked for.",
    )
    headers: Annotated[tuple[Header, ...], BeforeValidator(_any_to_empty)] = Field(
        default=(), description="Headers that pages may send; any when not set."
    )
    expose: tuple[Header, ...] = Field(
        default=(),
        description="Headers of answers that pages may read, besides those that they may read anyway.",
    )
    private_network: bool = Field(
        default=False,
        description="Whether pages of the internet may ask a gateway in a private network"
        " (Access-Control-Allow-Private-Network).",
    )
    max_age: Duration = Field(
        default=600.0, description="How long a browser may cache the answer to a preflight."
    )

    @field_validator("origins")
    @classmethod
    def _no_credentials_with_any_origin(
        cls, origins: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        if ANY in origins and info.data.get("credentials"):
            # Browsers refuse this combination. The usual way around it, repeating the origin of each request,
            # would let every page on the web read what its visitor may read.
            msg = "'*' and `credentials: true` exclude each other: list the origins one by one"
            raise ValueError(msg)
        if ANY in origins and len(origins) > 1:
            msg = "'*' is every origin; leave the others out, or take it out"
            raise ValueError(msg)
        return origins

    @field_validator("expose")
    @classmethod
    def _named(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if ANY in names and info.data.get("credentials"):
            # The Fetch standard, 3.2.5: with credentials, `*` is not a wildcard but the name of a header.
            msg = "with `credentials: true` '*' means nothing: list the headers one by one"
            raise ValueError(msg)
        return names


def _of_a_route(value: object) -> object:
    if value in ("none", "off") or value is False:
        return CorsConfig()
    if isinstance(value, dict) and not value.get("origins"):
        msg = "needs origins: it replaces the whole of the gateway's cors; write none for a route without CORS"
        raise ValueError(msg)
    return value


RouteCors = Annotated[
    CorsConfig | None,
    BeforeValidator(_of_a_route, json_schema_input_type=CorsConfig | Literal["none", "off"] | None),
]
"""The rules of one route; no origins: none. None: those of the gateway."""
