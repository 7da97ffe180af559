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


# RFC 7239

RFC7239 = Trust(NETWORKS, "rfc7239")
BOTH = Trust(NETWORKS, "both")


def told(origin: Origin, host: bytes = b"a.test:81") -> dict[bytes, list[bytes]]:
    """What the upstream is told of a request to that host, by lower-case name."""
    block = origin.forwarded + origin.naming(host)
    return {name.lower(): values(block, name.lower()) for name, _ in fields(block)}


def test_forwarded_of_an_untrusted_peer() -> None:
    """One element; an IPv6 address and a host with a port are quoted, a Unix socket is unknown (RFC 7239, 6)."""
    assert told(RFC7239.origin("192.0.2.1", "https")) == {
        b"forwarded": [b'for=192.0.2.1;host="a.test:81";proto=https']
    }
    assert told(RFC7239.origin("2001:db8::1", "http"), b"a.test") == {
        b"forwarded": [b'for="[2001:db8::1]";host=a.test;proto=http']
    }
    assert told(RFC7239.origin("", "http"), b"") == {b"forwarded": [b"for=unknown;proto=http"]}


def test_forwarded_of_a_trusted_peer_goes_on() -> None:
    """Its elements stay in front; who asked, how, and for which host is read from them, and from nothing else."""
    line = b'Forwarded: for=1.1.1.1, for="[2001:db8::7]:99";host="shop.test";proto=https'
    origin = refined(line, b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: http", trust=RFC7239)
    assert (origin.client, origin.scheme, origin.host) == ("2001:db8::7", "https", b"shop.test")
    assert told(origin, b"shop.test") == {
        b"forwarded": [
            line.removeprefix(b"Forwarded: ") + b", for=10.0.0.1;host=shop.test;proto=https"
        ]
    }


@pytest.mark.parametrize(
    "line",
    [b"for", b"for=a b", b'for="1.1.1.1', b"for=1.1.1.1;for=2.2.2.2", b"for=1.1.1.1 2", b"=x"],
)
def test_malformed_forwarded_is_nobodys_word(line: bytes) -> None:
    """The peer counts as the client, and what cannot be read is not passed on."""
    origin = refined(b"Forwarded: " + line, trust=RFC7239)
    assert origin.client == "10.0.0.1"
    assert told(origin) == {b"forwarded": [b'for=10.0.0.1;host="a.test:81";proto=http']}


def test_both_believes_x_forwarded() -> None:
    """With both, the client is who X-Forwarded-For names, and both are written."""
    origin = refined(b"X-Forwarded-For: 192.0.2.7", b"Forwarded: for=6.6.6.6", trust=BOTH)
    assert origin.client == "192.0.2.7"
    assert told(origin) == {
        b"x-forwarded-for": [b"192.0.2.7, 10.0.0.1"],
        b"x-forwarded-proto": [b"http"],
        b"x-forwarded-host": [b"a.test:81"],
        b"x-forwarded-port": [b"81"],
        b"forwarded": [b'for=6.6.6.6, for=10.0.0.1;host="a.test:81";proto=http'],
    }
    assert told(BOTH.origin("192.0.2.1", "http")).keys() == told(origin).keys()


def test_forwarded_passes_as_it_is_by_default() -> None:
    """Where X-Forwarded-* is the word, a trusted proxy's Forwarded is the upstream's business."""
    assert told(refined(b"Forwarded: for=x;;"))[b"forwarded"] == [b"for=x;;"]
    assert b"forwarded" not in told(refined())


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [("http", b"a.test", b"80"), ("https", b"a.test", b"443"), ("https", b"a.test:8443", b"8443"),
     ("http", b"[::1]:81", b"81"), ("http", b"[::1]", b"80")],
)  # fmt: skip
def test_the_port_is_the_one_that_the_client_asked_for(
    scheme: str, host: bytes, port: bytes
) -> None:
    """The port in Host, else that of the scheme; a trusted proxy's own word stands."""
    assert told(TRUST.origin("192.0.2.1", scheme), host)[b"x-forwarded-port"] == [port]
    said = told(refined(b"X-Forwarded-Port: 99"), host)
    assert said[b"x-forwarded-port"] == [b"99"]
    assert b"x-forwarded-port" not in told(TRUST.origin("192.0.2.1", scheme), b"")


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
