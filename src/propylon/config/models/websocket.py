"""Define `websocket` of a route: how long a socket may stay open, and what may pass over it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from propylon.config.models.base import ConfigModel
from propylon.config.models.cors import Origins
from propylon.config.models.syntax import check_token
from propylon.config.models.units import Size, Timeout, Whole, WrittenRate

__all__ = ["UpgradeName", "WebSocketConfig"]


def _upgrade_name(text: str) -> str:
    name = text.lower()
    for part in name.split("/", 1):  # RFC 9110, 7.8: a name, and maybe a version
        check_token(part, "protocol that Upgrade can name")
    if name == "websocket":
        msg = "WebSockets need no upgrade: write WEBSOCKET among the methods, or no methods"
        raise ValueError(msg)
    if name.partition("/")[0] in {"h2c", "http", "tls"}:
        # Requests in a tunnel of another HTTP would pass by all rules of all routes.
        msg = f"{text} is never tunnelled: the requests in it would pass by every rule"
        raise ValueError(msg)
    return name


UpgradeName = Annotated[str, AfterValidator(_upgrade_name)]


class WebSocketConfig(ConfigModel):
    """How long a WebSocket may stay open, who may open one, and what may pass over it."""

    close_on_expiry: bool = Field(
        default=True,
        description="Whether the gateway closes a socket (code 1008) when its token expires. A revoked token closes its"
        " sockets in any case.",
    )
    idle: Timeout = Field(
        default=300.0,
        description="Longest time without a byte in either direction; then 1001. Also the longest time for which one side"
        " may not read what is sent to it.",
    )
    max_lifetime: Timeout | None = Field(
        default=None,
        description="Longest life of a socket; then 1001. Unlimited when not set.",
    )
    max_message: Size | None = Field(
        default=None,
        description="Largest message of a client, compressed as it is sent; a larger one closes the socket (1009). Unlimited"
        " when not set.",
    )
    max_rate: WrittenRate | None = Field(
        default=None,
        description="Most messages of a client, pings included: 100/s. One more closes the socket (1008). Unlimited when not"
        " set.",
    )
    ping: Timeout | None = Field(
        default=None,
        description="How often the gateway sends a ping to both sides. A side that sends nothing until the next ping is gone:"
        " the socket is closed (1001). No pings when not set.",
    )
    max_open: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Most open sockets of one caller on this route, in each worker: of a user, or of an address where the"
        " user is not known; one more is 429. Unlimited when not set.",
    )
    origins: Origins = Field(
        default=(),
        description="Origins of the pages that may open a socket, besides those of the gateway's own host:"
        " [https://app.example.com], or '*' for all. When not set, those of the route's cors, else of cors.origins.",
    )
