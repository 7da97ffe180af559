"""The header of the PROXY protocol: what it says, where it ends, and that nothing else passes for one."""

import struct
from ipaddress import IPv6Address, ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.wire.proxy_protocol import ProxyHeader, ProxyHeaderError
from tests.support.examples import examples

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
BEHIND = b"GET / HTTP/1.1\r\n"
# doc/proxy-protocol.txt, 2.1: the longest line.
LONGEST = (
    b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    b" ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
)
# What a header may keep: a line of version 1.
KEPT = 107


def v2(
    source: str = "192.0.2.7", *, command: int = 1, family: int | None = None, more: bytes = b""
) -> bytes:
    """A header of version 2; `more` are its TLVs."""
    address = ip_address(source)
    usual = 0x21 if isinstance(address, IPv6Address) else 0x11
    addresses = address.packed + address.packed + struct.pack("!HH", 50000, 443)
    kind = usual if family is None else family
    return (
        (SIGNATURE + bytes([0x20 | command, kind]) + struct.pack("!H", len(addresses + more)))
        + addresses
        + more
    )


def read(pieces: list[bytes]) -> tuple[str | None, bytes] | str | None:
    """What the pieces say: the source and what follows, `refused`, or None while the header is not whole."""
    header, waiting = ProxyHeader(), b""
    for piece in pieces:
        waiting += piece
        if not header.done:
            try:
                taken = header.feed(waiting)
            except ProxyHeaderError:
                return "refused"
            assert len(header._kept) <= KEPT
            waiting = waiting[taken:]
    return (header.source, waiting) if header.done else None


GOOD = {
    b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n": "192.0.2.7",
    b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n": "0.0.0.0",
    b"PROXY TCP6 2001:DB8::7 ::1 1 2\r\n": "2001:db8::7",
    LONGEST: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": None,
    v2(): "192.0.2.7",
    v2("2001:db8::7"): "2001:db8::7",
    v2(more=b"\x03\x00\x04\x00\x00\x00\x00"): "192.0.2.7",
    v2(more=b"\x20" + b"x" * 5000): "192.0.2.7",
    v2(command=0): None,  # LOCAL: a health check of the proxy itself
    SIGNATURE + b"\x20\x00\x00\x00": None,
    v2(family=0x00): None,  # UNSPEC
    v2(family=0x12): None,  # datagrams
    v2(family=0x31, more=b"p" * 204): None,  # a Unix socket of the proxy's machine
}


@pytest.mark.parametrize("raw", GOOD)
def test_what_it_says(raw: bytes) -> None:
    """Both versions, whole and byte by byte; what follows is left where it is."""
    expected = (GOOD[raw], BEHIND)
    assert read([raw + BEHIND]) == expected
    assert read([raw[at : at + 1] for at in range(len(raw))] + [BEHIND]) == expected


@pytest.mark.parametrize("raw", GOOD)
def test_a_part_says_nothing_yet(raw: bytes) -> None:
    """Every beginning of a header waits for the rest."""
    for end in range(min(len(raw), 300)):
        assert read([raw[:end]]) is None


BAD = [
    BEHIND,
    b"\x16\x03\x01\x02\x00\x01\x00",  # a TLS handshake
    b"POST / HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
    b"PROXY TCP4 192.0.2.007 198.51.100.1 1 2\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 1 2\r\n",
    b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
    b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
    b"PROXY UNKNOWN" + b"x" * 100,
    b"PROXY UNKNOWNx\r\n",
    LONGEST[:-2] + b"0\r\n",
    SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),  # version 1 in the clothes of 2
    SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),  # an unknown command
    SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),  # too short for its addresses
    SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
    SIGNATURE[:-1] + b"\r",
    b"\r\n\r\nGET / HTTP/1.1\r\n",
]


@pytest.mark.parametrize("raw", BAD)
def test_what_is_no_header(raw: bytes) -> None:
    """Anything in which something can be doubted is refused, however it arrives."""
    assert read([raw]) == "refused"
    assert read([raw[at : at + 1] for at in range(len(raw))]) == "refused"


@given(st.sampled_from([*GOOD, *BAD]), st.lists(st.integers(0, 400), max_size=4))
@examples(300)
def test_pieces_say_the_same(raw: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, they say what they say as a whole."""
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[begin:end] for begin, end in pairwise(places)]
    assert read([*pieces, BEHIND]) == read([raw + BEHIND])


_STARTS = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 1.2.3.4 ", SIGNATURE, SIGNATURE + b"\x21"])


@given(_STARTS, st.binary(max_size=300), st.integers(0, 300))
@examples(1000)
def test_no_bytes_do_harm(start: bytes, raw: bytes, cut: int) -> None:
    """Random bytes are refused or waited for, never a crash, and never more is kept than a header is long."""
    raw = start + raw
    read([raw[:cut], raw[cut:]])


@given(st.ip_addresses(), st.binary(max_size=100), st.binary(max_size=40))
@examples(300)
def test_every_address_arrives(source: object, more: bytes, behind: bytes) -> None:
    """Version 2 says any address, skips its TLVs, and leaves what follows."""
    assert read([v2(str(source), more=more) + behind]) == (str(source), behind)
