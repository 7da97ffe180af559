"""Forwarded (RFC 7239), read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.wire.forwarded import forwarded, hops
from propylon.wire.headers import values


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], []),
        ([b"for=192.0.2.43"], [{b"for": b"192.0.2.43"}]),
        ([b'For="[2001:db8:cafe::17]:4711"'], [{b"for": b"[2001:db8:cafe::17]:4711"}]),
        (
            [b"for=192.0.2.60;proto=http;by=203.0.113.43"],
            [{b"for": b"192.0.2.60", b"proto": b"http", b"by": b"203.0.113.43"}],
        ),
        ([b"for=a, for=b", b"for=c"], [{b"for": b"a"}, {b"for": b"b"}, {b"for": b"c"}]),
        ([b'for="a,\\"b;"; host=x ,'], [{b"for": b'a,"b;', b"host": b"x"}]),
        ([b"for=a; for=b"], None),
        ([b"for a"], None),
        ([b'for="a'], None),
        ([b"for=a:1"], None),
        ([b";for=a"], None),
    ],
)
def test_elements(lines: list[bytes], found: list[dict[bytes, bytes]] | None) -> None:
    """Elements of all lines in order, names in any case, values with or without quotes; section 4."""
    assert hops(lines) == found


@given(
    st.ip_addresses().map(str),
    st.sampled_from(["http", "https"]),
    st.sampled_from([b"a.test", b"a.test:81", b"[::1]:8"]),
)
def test_what_is_written_is_read(peer: str, scheme: str, host: bytes) -> None:
    """Our element is a valid one, and means what it was made of."""
    (line,) = values(forwarded(b"for=x", peer, scheme, host), b"forwarded")
    node = f"[{peer}]" if ":" in peer else peer
    assert hops([line]) == [
        {b"for": b"x"},
        {b"for": node.encode(), b"host": host, b"proto": scheme.encode()},
    ]
