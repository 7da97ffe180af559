"""Who the client really is."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.edge.trust import Trust
from propylon.proxy.exchange import Origin
from propylon.proxy.principal import Principal
from propylon.wire.headers import fields, values
from tests.proxy.doubles import request

NETWORKS: list[IPv4Network | IPv6Network] = [
    ip_network("10.0.0.0/8"),
    ip_network("fd00::/8"),
    ip_network("127.0.0.1/32"),
]
TRUST = Trust(NETWORKS)


def refined(*lines: bytes, peer: str = "10.0.0.1", trust: Trust = TRUST) -> Origin:
    """The origin of a request with these headers."""
    return trust.refine(trust.origin(peer, "http"), request(b"/", *lines))


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.0.0.1", True),
        ("::ffff:10.0.0.1", True),
        ("fd00::1", True),
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("192.0.2.1", False),
        ("::1", False),
        ("", False),
        ("unix:", False),
    ],
)
def test_who_is_trusted(peer: str, trusted: bool) -> None:
    """Peers in the networks; an IPv4 peer of a dual-stack listener is one, and is called by its own address."""
    origin = TRUST.origin(peer, "https")
    plain = peer.removeprefix("::ffff:")
    assert (origin.trusted, origin.client, origin.peer) == (trusted, plain, plain)
    assert not Trust([]).origin(peer, "http").trusted


def test_what_the_upstream_is_told_of_an_untrusted_peer() -> None:
    """The peer itself and the scheme; without an address, the scheme alone."""
    assert TRUST.origin("192.0.2.1", "https").forwarded == (
        b"\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https"
    )
    assert TRUST.origin("", "http").forwarded == b"\r\nX-Forwarded-Proto: http"


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ([], "10.0.0.1"),
        ([b"192.0.2.7"], "192.0.2.7"),
        ([b"1.1.1.1, 192.0.2.7"], "192.0.2.7"),
        ([b"1.1.1.1", b"192.0.2.7"], "192.0.2.7"),
        ([b"192.0.2.7, 10.2.2.2, 10.3.3.3"], "192.0.2.7"),
        ([b"127.0.0.1, 192.0.2.7, 10.3.3.3"], "192.0.2.7"),
        ([b"10.2.2.2, 10.3.3.3"], "10.2.2.2"),
        ([b"192.0.2.7:1234"], "192.0.2.7"),
        ([b"[2001:db8::1]:443"], "2001:db8::1"),
        ([b"[2001:DB8::1]"], "2001:db8::1"),
        ([b"2001:db8::1"], "2001:db8::1"),
        ([b"2001:db8::1, fd00::2"], "2001:db8::1"),
        ([b"::ffff:192.0.2.7"], "192.0.2.7"),
        ([b"::ffff:10.1.1.1"], "10.1.1.1"),
        ([b"unknown"], "10.0.0.1"),
        ([b"192.0.2.7, unknown"], "10.0.0.1"),
        ([b"192.0.2.7, _hidden, 10.9.9.9"], "10.9.9.9"),
        ([b"192.0.2.7,"], "10.0.0.1"),
        ([b""], "10.0.0.1"),
        ([b"1.2.3.4.5"], "10.0.0.1"),
        ([b"010.1.1.1"], "10.0.0.1"),
        ([b"\xe9, \xff"], "10.0.0.1"),
        ([b"999.1.1.1"], "10.0.0.1"),
        ([b"[::1"], "::1"),
    ],
)
def test_client(chain: list[bytes], client: str) -> None:
    """The rightmost address that is none of ours; what is left of it, or of garbage, is hearsay."""
    lines = [b"X-Forwarded-For: " + entry for entry in chain]
    assert refined(*lines).client == client


_addresses = st.ip_addresses().map(str)


@given(st.lists(_addresses, max_size=4), _addresses, st.lists(_addresses, max_size=3))
def test_nobody_chooses_their_own_address(forged: list[str], real: str, proxies: list[str]) -> None:
    """Whatever a client writes in front, the trusted proxies appended the truth behind it."""
    real_address = ip_address(real)
    known = [str(ip_address("10.0.0.0") + number + 1) for number, _ in enumerate(proxies)]
    chain = ", ".join([*forged, real, *known]).encode()
    mapped = getattr(real_address, "ipv4_mapped", None) or real_address
    if any(mapped in network for network in NETWORKS):
        return
    assert refined(b"X-Forwarded-For: " + chain).client == str(mapped)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, blacklist_characters="\x7f")))
def test_garbage_is_nobody(text: str) -> None:
    """Any chain gives an address: one from it, or the peer."""
    line = b"X-Forwarded-For: " + text.encode("latin-1")
    assert str(ip_address(refined(line).client))


def test_the_chain_is_continued() -> None:
    """What came, then the peer; of the rest, what names the way."""
    origin = refined(
        b"X-Forwarded-For: 1.1.1.1",
        b"x-forwarded-for: 2.2.2.2",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: public.test:8443",
        b"X-Forwarded-Port: 8443",
        b"X-FORWARDED-PREFIX: /x",
    )
    assert fields(origin.forwarded) == [
        (b"X-Forwarded-For", b"1.1.1.1, 2.2.2.2, 10.0.0.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Port", b"8443"),
        (b"X-Forwarded-Prefix", b"/x"),
    ]
    assert (origin.scheme, origin.host, origin.trusted) == ("https", b"public.test:8443", True)
    assert (origin.client, origin.peer) == ("2.2.2.2", "10.0.0.1")


@pytest.mark.parametrize("proto", [b"gopher", b"HTTPS", b"https\x85", b"", b"javascript:"])
def test_a_scheme_that_is_none(proto: bytes) -> None:
    """The connection's own."""
    assert refined(b"X-Forwarded-Proto: " + proto).scheme == "http"


@pytest.mark.parametrize(
    ("host", "read"),
    [
        (b"a.test, b.test", b"b.test"),
        (b"[::1]:8000", b"[::1]:8000"),
        (b"a b", None),
        (b"a/b", None),
        (b"<script>", None),
        (b"x" * 256, None),
        (b"", None),
    ],
)
def test_a_reported_host(host: bytes, read: bytes | None) -> None:
    """Passed on if it is one."""
    assert refined(b"X-Forwarded-Host: " + host).host == read


def test_only_one_of_each_is_passed_on() -> None:
    """Whatever was repeated; the last, which the nearest proxy wrote, not the client."""
    lines = [b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http", b"X-Forwarded-For: 1.1.1.1"]
    origin = refined(*lines, lines[2])
    assert values(origin.forwarded, b"x-forwarded-proto") == [b"http"]
    assert len(values(origin.forwarded, b"x-forwarded-for")) == 1


def test_unix_sockets_are_trusted_by_name() -> None:
    """With `unix` in `trusted_proxies` a peer without an address is trusted, and appends none to the chain."""
    trust = Trust.of(["unix", "10.0.0.0/8"])
    assert trust.trusts("")
    assert trust.trusts("10.1.1.1")
    assert not trust.trusts("192.0.2.1")
    origin = refined(b"X-Forwarded-For: 192.0.2.7", peer="", trust=trust)
    assert (origin.client, origin.forwarded) == (
        "192.0.2.7",
        b"\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http",
    )
    alone = refined(peer="", trust=trust)
    assert (alone.client, alone.forwarded) == ("", b"\r\nX-Forwarded-Proto: http")


def test_a_certificate_is_told_by_a_trusted_proxy_or_by_the_gateway() -> None:
    """X-Client-Cert-* of a trusted proxy passes, unless the gateway itself asks clients for certificates."""
    sent = b"X-Client-Cert-Subject: CN=someone"
    assert b"\r\nX-Client-Cert-Subject: CN=someone" in refined(sent).forwarded
    own = Trust.of(["10.0.0.0/8"], reads_certificates=True)
    assert b"X-Client-Cert" not in refined(sent, trust=own).forwarded
    holder = Principal("CN=real")
    told = b"\r\nX-Client-Cert-Subject: CN=real"
    origin = own.origin("10.0.0.1", "https", holder=holder, certificate=told)
    again = own.refine(origin, request(b"/", sent))
    assert (again.holder, again.certificate) == (holder, told)
    assert again.forwarded.count(b"X-Client-Cert") == 1
