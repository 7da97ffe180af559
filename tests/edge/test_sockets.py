"""The two ends of a client's connection, as sockets and ASGI servers have them."""

from typing import Any

import pytest

from propylon.edge.sockets import ends_from, ends_of
from propylon.wire.proxy_header import Ends


@pytest.mark.parametrize(
    ("client", "local", "expected"),
    [
        (("192.0.2.1", 4711), ("192.0.2.9", 443), Ends("192.0.2.1", 4711, "192.0.2.9", 443)),
        (["192.0.2.1", 4711], ["192.0.2.9", 443], Ends("192.0.2.1", 4711, "192.0.2.9", 443)),
        (("::1", 1, 0, 0), ("fe80::1%eth0", 2, 0, 3), Ends("::1", 1, "fe80::1", 2)),
        # A Unix socket: the client has no name, the listener a path.
        ("", "/run/p.sock", Ends("", 0, "", 0)),
        (None, ("/run/p.sock", None), Ends("", 0, "", 0)),
        (("testclient", 50000), ("testserver", 80), Ends("testclient", 50000, "testserver", 80)),
    ],
)
def test_both_ends(client: Any, local: Any, expected: Ends) -> None:
    """Address and port of each, without a zone; nothing where there is none."""
    assert ends_from(client, local) == expected


def test_a_connection_that_is_closed() -> None:
    """It has no ends any more."""
    assert ends_of(None) == Ends("", 0, "", 0)
