"""Define `sticky`: one caller stays with an instance of a service, or with a service of a `split`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from propylon.config.models.base import ConfigModel, CookieName, PlainPath
from propylon.config.models.jwt import Blank
from propylon.config.models.units import Timeout

__all__ = ["RouteSticky", "StickyConfig"]

# As long as that of the cache: half of the digits of SHA-256.
_SHORTEST = 32
# RFC 6265bis, 4.1.3: browsers drop cookies of these names without Secure.
_SECURE_PREFIXES = ("__secure-", "__host-")


def _long_enough(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and len(secret.get_secret_value()) < _SHORTEST:
        msg = "is shorter than 32 characters; write what `openssl rand -hex 32` prints"
        raise ValueError(msg)
    return secret


class StickyConfig(ConfigModel):
    """How one caller stays where it is."""

    cookie: CookieName = Field(
        description="Name of the cookie. The gateway signs its value, and takes the cookie out of what the service gets."
    )
    on_failure: Literal["reassign", "refuse"] = Field(
        default="reassign",
        description="When what the cookie names cannot be asked: reassign: another one is chosen, and a new cookie set; refuse: 503.",
    )
    max_age: Timeout | None = Field(
        default=None,
        description="How long browsers keep the cookie; until they are closed, when not set.",
    )
    path: PlainPath = Field(default="/", description="Path of the cookie.")
    same_site: Literal["lax", "strict", "none"] = Field(
        default="lax", description="SameSite of the cookie; none needs `secure: true`."
    )
    secure: bool | None = Field(
        default=None,
        validate_default=True,
        description="Secure of the cookie. When not set: for requests that came by https.",
    )
    http_only: bool = Field(
        default=True, description="HttpOnly of the cookie: scripts of a page cannot read it."
    )
    secret: Annotated[SecretStr | None, Blank, AfterValidator(_long_enough)] = Field(
        default=None,
        description="Signs the cookie. When not set: a key that is made from auth.jwt.secret. All gateways need the same.",
    )

    @field_validator("secure")
    @classmethod
    def _is_kept(
        cls, secure: bool | None, info: ValidationInfo  # noqa: FBT001 — a value, not a switch
    ) -> bool | None:
        name = info.data.get("cookie", "").lower()
        if not secure and name.startswith(_SECURE_PREFIXES):
            msg = "must be true for a cookie of this name: browsers drop it otherwise (RFC 6265bis, 4.1.3)"
            raise ValueError(msg)
        if not secure and info.data.get("same_site") == "none":
            msg = "must be true with `same_site: none`: browsers drop the cookie otherwise"
            raise ValueError(msg)
        return secure


def _among_several(sticky: StickyConfig | None, info: ValidationInfo) -> StickyConfig | None:
    if sticky is not None and "split" in info.data and not info.data["split"]:
        msg = "is for a route with split; to stay with an instance, write sticky in the service"
        raise ValueError(msg)
    return sticky


RouteSticky = Annotated[StickyConfig | None, AfterValidator(_among_several)]
"""How a caller of a route stays with one of the services of its `split`, which stands before it."""
