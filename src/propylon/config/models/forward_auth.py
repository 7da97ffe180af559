"""Define `forward_auth`: another service decides about the requests of a route."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from propylon.config.models.base import ConfigModel, CookieName
from propylon.config.models.jwt import DocumentUrl
from propylon.config.models.token_syntax import (
    check_answer_header,
    check_question_header,
    is_of_callers,
)
from propylon.config.models.units import Timeout

__all__ = ["ForwardAuth", "ForwardAuthConfig", "check_names"]


class ForwardAuthConfig(ConfigModel):
    """Before a request goes on, a service is asked. Its 2xx lets the request pass; any other answer goes to the client."""

    url: DocumentUrl = Field(
        description="The URL that is asked, with GET and without a body. The question has X-Forwarded-Method, -Proto, -Host, -Uri"
        " and -For, X-Original-Method and X-Original-URL, and the client's Cookie and Authorization."
    )
    headers: tuple[Annotated[str, AfterValidator(check_answer_header)], ...] = Field(
        default=(),
        description="Headers of a 2xx that the service gets, such as [X-User]. What a client sends under these names is removed, on"
        " all routes. X-User-Id and the like need auth: none, and Authorization replaces the client's.",
    )
    request_headers: tuple[Annotated[str, AfterValidator(check_question_header)], ...] = Field(
        default=(), description="Further headers of the client that are part of the question."
    )
    cookies: tuple[CookieName, ...] = Field(
        default=(),
        description="Cookies that a 2xx sets and the client gets, by name. Those of any other answer always reach the client.",
    )
    timeout: Timeout = Field(default=1.0, description="Until the whole answer is there.")
    on_failure: Literal["closed", "open"] = Field(
        default="closed",
        description="What becomes of a request if there is no answer in time, or one with status 500 and above. closed: 503;"
        " open: it passes, without the headers.",
    )


def check_names(config: ForwardAuthConfig, route: Mapping[str, Any]) -> None:
    """Check that nothing else says what the answer says; `route` are the other keys of the route. Raises ValueError."""
    others = {name.lower() for name in route.get("claims", ())}
    if (basic := route.get("basic_auth")) and basic.user_header:
        others.add(basic.user_header.lower())
    for name in config.headers:
        if is_of_callers(name.lower()) and route.get("auth") != "none":
            msg = f"takes {name} from the answer, and the token says it, too; write `auth: none`, or another name"
            raise ValueError(msg)
        if name.lower() in others:
            msg = f"takes {name} from the answer, which claims or basic_auth set, too; take it out of one of them"
            raise ValueError(msg)


class NoForwardAuthConfig(ForwardAuthConfig):
    """Stands for `none`: false, and otherwise what nobody looks at."""

    url: str = ""

    def __bool__(self) -> bool:
        """Say that nobody is asked."""
        return False


_NONE = NoForwardAuthConfig()


def _none_is_off(written: Any) -> Any:
    if written == "none":
        return _NONE
    if isinstance(written, str | bool | int | float):
        msg = 'must be a mapping with a url, such as {url: "http://auth:9000/verify"}, or none'
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return written


ForwardAuth = Annotated[
    ForwardAuthConfig,
    BeforeValidator(_none_is_off, json_schema_input_type=ForwardAuthConfig | Literal["none"]),
]
"""Who decides about the requests of a route; `none`: nobody, whatever `defaults` say."""
