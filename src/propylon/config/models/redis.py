"""Define the section `redis`: the store that gateways on several machines share."""

import re
from dataclasses import replace
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from propylon.config.models.base import ConfigModel
from propylon.config.models.jwt import Blank
from propylon.config.models.redis_url import RedisUrl, parse_redis_url
from propylon.config.models.units import Timeout

__all__ = ["Redis", "RedisConfig"]

# Braces would make a hash tag of their own, and a blank or a control character no operator sees in a key.
_NAMESPACE = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


def _url(url: SecretStr | None) -> SecretStr | None:
    if url is not None:
        parse_redis_url(url.get_secret_value())
    return url


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text):
        msg = "must be 1 to 64 of A-Z a-z 0-9 _ . : / -"
        raise ValueError(msg)
    return text


class RedisConfig(ConfigModel):
    """Redis or Valkey, which gateways on several machines share; `redis: URL` is short for `redis: {url: URL}`."""

    url: Annotated[SecretStr | None, Blank, AfterValidator(_url)] = Field(
        default=None,
        description="redis://, rediss:// (TLS), unix://, redis+sentinel://…?master=NAME or redis+cluster://…; unset:"
        " limits count on this machine. It may contain a user and a password.",
    )
    user: Annotated[str | None, Blank] = Field(
        default=None, description="User of the access control list (ACL); wins over the URL's."
    )
    password: Annotated[SecretStr | None, Blank] = Field(
        default=None, description="Password of the user, or of the server; wins over the URL's."
    )
    namespace: Annotated[str, AfterValidator(_namespace)] = Field(
        default="propylon",
        description="What every key begins with. Gateways with the same namespace and the same limits share them.",
    )
    timeout: Annotated[Timeout, Field(ge=0.005, le=5.0)] = Field(
        default=0.05,
        description="The longest that a request waits for Redis. After it, this gateway decides by itself until Redis"
        " answers again.",
        json_schema_extra={"default": "50ms"},
    )

    @field_validator("password")
    @classmethod
    def _with_a_url(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if secret is not None and "url" in info.data and info.data["url"] is None:
            msg = "needs url beside it"
            raise ValueError(msg)
        return secret

    @property
    def address(self) -> RedisUrl | None:
        """Where Redis is, and how to log in; None: there is none."""
        if self.url is None:
            return None
        found = parse_redis_url(self.url.get_secret_value())
        if self.user is not None:
            found = replace(found, user=self.user)
        if self.password is not None:
            found = replace(found, password=self.password.get_secret_value())
        return found


def _long_form(written: object) -> object:
    return {"url": written} if isinstance(written, str) else written


Redis = Annotated[
    RedisConfig, BeforeValidator(_long_form, json_schema_input_type=RedisConfig | str)
]
"""The section; `redis: URL` is its short form."""
