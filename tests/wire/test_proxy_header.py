"""The PROXY header: both versions, byte for byte, and read again by a reader that is not ours."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.wire.proxy_header import Ends, ProxyVersion, local_header, proxy_header
from tests.support.secure import read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
VERSIONS: tuple[ProxyVersion, ...] = ("v1", "v2")
PORTS = st.integers(0, 65535)


def test_version_1_byte_for_byte() -> None:
    """One line of text (proxy-protocol.txt, 2.1)."""
    ends = Ends("192.0.2.1", 56324, "192.0.2.9", 443)
    assert proxy_header("v1", ends) == b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n"
    ends = Ends("2001:DB8::1", 1, "2001:db8::2", 65535)
    assert proxy_header("v1", ends) == b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"
    assert local_header("v1") == b"PROXY UNKNOWN\r\n"


def test_version_2_byte_for_byte() -> None:
    """Signature, version and command, family, length, addresses, ports (proxy-protocol.txt, 2.2)."""
    header = proxy_header("v2", Ends("192.0.2.1", 0x1234, "192.0.2.9", 443))
    addresses = bytes([192, 0, 2, 1, 192, 0, 2, 9])
    assert header == SIGNATURE + b"\x21\x11\0\x0c" + addresses + b"\x12\x34\x01\xbb"
    header = proxy_header("v2", Ends("2001:db8::1", 1, "::1", 2))
    assert header[12:16] == b"\x21\x21\0\x24"
    assert local_header("v2") == SIGNATURE + b"\x20\0\0\0"


@pytest.mark.parametrize(
    ("client", "local", "said"),
    [
        # A dual-stack listener has IPv4 clients in IPv6 clothes.
        ("::ffff:192.0.2.1", "::ffff:192.0.2.9", ("TCP4", "192.0.2.1", "192.0.2.9")),
        # A zone means something on this host only.
        ("fe80::1%eth0", "fe80::2%eth0", ("TCP6", "fe80::1", "fe80::2")),
        # A client that a proxy has reported may be of another family than our socket.
        ("2001:db8::1", "192.0.2.9", ("TCP6", "2001:db8::1", "::ffff:c000:209")),
        ("192.0.2.1", "2001:db8::9", ("TCP6", "::ffff:c000:201", "2001:db8::9")),
        # A proxy asks over a Unix socket, and has reported the client.
        ("192.0.2.1", "", ("TCP4", "192.0.2.1", "0.0.0.0")),
        ("2001:db8::1", "/run/p.sock", ("TCP6", "2001:db8::1", "::")),
        # A client on a Unix socket has no address; nor has the one of a test client.
        ("", "", ("UNKNOWN",)),
        ("testclient", "192.0.2.9", ("UNKNOWN",)),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_ends_of_every_kind(
    version: ProxyVersion, client: str, local: str, said: tuple[str, ...]
) -> None:
    """Both addresses are said in one family, or that the client is unknown."""
    found = read_header(proxy_header(version, Ends(client, 1, local, 2)))

    def plain(words: tuple[str, ...]) -> tuple[Any, ...]:
        return (words[0], *map(ipaddress.ip_address, words[1:3]), *words[3:])

    assert plain(found) == plain((*said, "1", "2") if len(said) > 1 else said)


@given(st.ip_addresses(), PORTS, st.ip_addresses(), PORTS)
def test_what_is_written_can_be_read(client: Any, port: int, local: Any, own: int) -> None:
    """Whatever the ends are, both versions say the same, version 1 within the 107 bytes that a reader allows."""
    ends = Ends(str(client), port, str(local), own)
    first, second = (proxy_header(version, ends) for version in VERSIONS)
    assert len(first) <= 107
    assert first.count(b"\n") == 1
    assert read_header(first) == read_header(second)
    assert read_header(first)[3:] == (str(port), str(own))
