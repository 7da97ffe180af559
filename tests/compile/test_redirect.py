"""The table of the listeners that only redirect, and the port that they lead to."""

from typing import Any

import pytest

from propylon.compile.redirect import https_port, redirecting_table
from propylon.config.models.schema import GatewayConfig

TLS = {"certificate": "a", "key": "b"}


def config(*listen: Any) -> GatewayConfig:
    """A configuration with these listeners."""
    return GatewayConfig.model_validate({"server": {"listen": list(listen)}, "tls": TLS})


@pytest.mark.parametrize(
    ("listen", "port"),
    [
        (["a:80"], 443),
        (["a:80", {"address": "a:8443", "tls": True}], 8443),
        ([{"address": "a:1", "tls": True}, {"address": "a:2", "tls": True}], 1),
        ([{"address": "systemd", "tls": True}, {"address": "a:2", "tls": True}], 2),
        ([{"address": "unix:/a", "tls": True}, {"address": "fd:3", "tls": True}], 443),
        ([{"address": "a:0", "tls": True}], 443),
    ],
)
def test_the_port_of_https(listen: list[Any], port: int) -> None:
    """The port of the first listener with TLS that names a port, else 443."""
    assert https_port(config(*listen)) == port


def test_there_is_a_table_only_where_a_listener_redirects() -> None:
    """Without one there is nothing to hold."""
    assert redirecting_table(config("a:80")) is None
    assert redirecting_table(GatewayConfig()) is None
    table = redirecting_table(config("a:80", {"address": "a:81", "redirect": "https"}))
    assert table is not None
    assert [route.name for route in table.routes] == ["redirect"]
