"""Define `basic_auth`: a route for the users of a file, with their passwords."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from propylon.config.models.base import ConfigModel
from propylon.config.models.token_syntax import check_claim_header
from propylon.proxy.authenticate.htpasswd import cheap, parse

__all__ = ["BasicAuth", "BasicAuthConfig"]


def _users(file: SecretStr) -> SecretStr:
    parse(file.get_secret_value())
    return file


def _realm(text: str) -> str:
    # RFC 9110, 5.6.4: what a quoted string may hold, without what each browser would read in its own way.
    if not text.isascii() or not text.isprintable():
        msg = "must be printable ASCII: browsers do not agree on anything else there"
        raise ValueError(msg)
    return text


class BasicAuthConfig(ConfigModel):
    """Basic authentication: a name and a password with each request."""

    # The reader replaces the path by the content, so a reload finds a change of the file like any other change.
    file: Annotated[SecretStr, AfterValidator(_users)] = Field(
        description="Path of the users with the hashes of their passwords, as `htpasswd -B` writes it: bcrypt or argon2. Read at"
        " the start and with each reload."
    )
    realm: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_realm)] = Field(
        default="Restricted", description="What browsers show beside the question for the password."
    )
    user_header: Annotated[str, AfterValidator(check_claim_header)] | None = Field(
        default=None,
        description="Header in which the service gets the user's name. A client's header of this name is removed, on all routes.",
    )
    forward: bool = Field(
        default=False, description="True: the service gets the header Authorization, too."
    )

    @property
    def users(self) -> Mapping[str, str]:
        """The hashes of the passwords, by name."""
        return parse(self.file.get_secret_value())

    @property
    def cheap(self) -> list[str]:
        """The users whose hash is cheaper to guess than it should be."""
        return cheap(self.users)


class NoBasicAuthConfig(BasicAuthConfig):
    """Stands for `none`: false, and otherwise what nobody looks at."""

    file: SecretStr = SecretStr("")

    def __bool__(self) -> bool:
        """Say that there is none."""
        return False


_NONE = NoBasicAuthConfig()


def _none_is_off(written: Any) -> Any:
    if written == "none":
        return _NONE
    if isinstance(written, str | bool | int | float):
        msg = "must be a mapping with a file, such as {file: htpasswd}, or none"
        raise ValueError(msg)  # noqa: TRY004 — pydantic makes a problem of a ValueError only
    return written


BasicAuth = Annotated[
    BasicAuthConfig,
    BeforeValidator(_none_is_off, json_schema_input_type=BasicAuthConfig | Literal["none"]),
]
"""The users of a route; `none`: there are none, whatever `defaults` say."""
