"""Which hosts may register, and which addresses may be asked: every spelling that leads astray."""

import ipaddress
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.names.addresses import (
    AllowList,
    is_forbidden,
    is_loopback,
    is_metadata_name,
    looks_numeric,
    parse_address,
    parse_host,
    parse_rule,
)

# What no rule lets in.
FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "4000::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd20:ce::254",
    # The same by way of a translator or a tunnel
    "::ffff:169.254.169.254",
    "::ffff:a9fe:a9fe",
    "0:0:0:0:0:ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:100.100.100.200",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::127.0.0.1",
    "64:ff9b::0.0.0.0",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::",
    "2002:a9fe:a9fe::1",
    "2002:7f00:1::",
    "2001:0:a9fe:a9fe::1",
    "2001::5601:5601",
    "fd00::5efe:169.254.169.254",
    "2001:db8::200:5efe:169.254.169.254",
    "fd00::5efe:127.0.0.1",
]
LOOPBACK = ["127.0.0.1", "127.1.2.3", "127.255.255.254", "::1", "::ffff:127.0.0.1"]
OTHERS = [
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "192.0.2.1",
    "8.8.8.8",
    "::ffff:10.0.0.1",
    "fd00::1",
    "2001:db8::1",
    "2606:4700::1111",
    "64:ff9b::8.8.8.8",
    "fd00::5efe:10.0.0.1",
]
EVERYTHING = ["*", "0.0.0.0/0", "::/0"]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_never(address: str) -> None:
    """Not by a rule that lets in everything, not by one that names the very address."""
    lists = [AllowList(EVERYTHING), AllowList([*EVERYTHING, address]), AllowList(["localhost"])]
    hosts = ["orders.internal", "localhost", address]
    assert [rules.admits(host, address) for rules in lists for host in hosts] == [False] * 9


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_is_not_everything(address: str) -> None:
    """What lets in everything does not mean the gateway's own host."""
    parsed = parse_address(address)
    assert parsed is not None
    assert (is_loopback(parsed), is_forbidden(parsed)) == (True, False)
    rules = AllowList([*EVERYTHING, "*.example", "local*", "*host", "126.0.0.0/7", "::/127"])
    assert not any(rules.admits(host, address) for host in ("localhost", "a.example", address))


@pytest.mark.parametrize("rule", ["127.0.0.0/8", "127.0.0.0/16", "127.0.0.1", "127.0.0.1/32"])
def test_loopback_by_name(rule: str) -> None:
    """A rule that names a loopback network admits that network, and no more."""
    rules = AllowList([rule])
    assert rules.admits("127.0.0.1", "127.0.0.1")
    assert rules.admits("a.example", "127.0.0.1")
    assert not rules.admits("::1", "::1")
    assert rules.admits("127.1.2.3", "127.1.2.3") == (rule == "127.0.0.0/8")


def test_loopback_of_ipv6() -> None:
    """One address, named in any way."""
    assert AllowList(["::1"]).admits("::1", "::1")
    assert AllowList(["::1/128"]).admits("localhost", "::1")
    assert not AllowList(["::1"]).admits("127.0.0.1", "127.0.0.1")


def test_localhost() -> None:
    """The name lets in the name, wherever on this host it leads, and nothing else."""
    rules = AllowList(["localhost"])
    assert rules.admits("localhost", "127.0.0.1")
    assert rules.admits("localhost", "::1")
    assert not rules.admits("127.0.0.1", "127.0.0.1")
    assert not rules.admits("orders.internal", "127.0.0.1")
    assert not rules.admits("localhost", "169.254.169.254")


@pytest.mark.parametrize("address", OTHERS)
def test_everything_else_is_up_to_the_operator(address: str) -> None:
    """Without a rule no address is admitted, by the widest rule every one of these."""
    parsed = parse_address(address)
    assert parsed is not None
    assert not is_forbidden(parsed)
    assert not AllowList([]).admits("a.example", address)
    assert AllowList(EVERYTHING).admits("a.example", address)
    assert AllowList(EVERYTHING).admits(address, address)
    assert AllowList([address]).admits(address, address)


@pytest.mark.parametrize(
    ("rules", "host", "address", "admitted"),
    [
        (["10.0.0.0/8"], "10.1.2.3", "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", "11.1.2.3", False),
        (["10.0.0.0/8"], "orders.internal", "10.1.2.3", True),
        (["10.0.0.0/8"], "orders.internal", "8.8.8.8", False),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", "10.1.2.3", True),
        (["fd00::/8"], "fd00::7", "fd00::7", True),
        (["fd00::/8"], "10.0.0.1", "10.0.0.1", False),
        (["*.internal"], "orders.internal", "10.1.2.3", True),
        (["*.internal"], "orders.internal", "8.8.8.8", True),
        (["*.internal"], "a.b.internal", "10.1.2.3", True),
        (["*.internal"], "internal", "10.1.2.3", False),
        (["*.internal"], "orders.internal.evil.example", "10.1.2.3", False),
        (["*.internal"], "ordersinternal", "10.1.2.3", False),
        (["*.internal"], "10.1.2.3", "10.1.2.3", False),
        (["*.INTERNAL"], "orders.internal", "10.1.2.3", True),
        (["orders-*"], "orders-1", "10.1.2.3", True),
        (["orders-*"], "orders", "10.1.2.3", False),
        (["orders"], "orders", "10.1.2.3", True),
        (["orders"], "orders2", "10.1.2.3", False),
        (["a.example"], "axexample", "10.1.2.3", False),
        # Digits are meant for addresses: 10.example.com is a name.
        (["10.*"], "10.1.2.3", "10.1.2.3", True),
        (["10.*"], "11.1.2.3", "11.1.2.3", False),
        (["10.*"], "10.example.com", "8.8.8.8", False),
        (["10.*"], "orders.internal", "10.1.2.3", False),
        (["*"], "10.1.2.3", "10.1.2.3", True),
    ],
)
def test_rules(rules: list[str], host: str, address: str, *, admitted: bool) -> None:
    """Networks let in addresses, and names by their addresses; globs let in what they name."""
    assert AllowList(rules).admits(host, address) == admitted


def test_what_is_not_worth_looking_up() -> None:
    """A name is looked up if a glob names it, or if its addresses may lie within a network."""
    assert not AllowList(["*.internal"]).may_lead("evil.example")
    assert AllowList(["*.internal"]).may_lead("orders.internal")
    assert AllowList(["10.0.0.0/8"]).may_lead("evil.example")
    assert not AllowList([])
    assert AllowList(["*"])
    assert AllowList(["10.*"])


@pytest.mark.parametrize("address", ["", "x", "10.0.0", "10.0.0.01", "0x7f000001", "[::1]"])
def test_no_address_is_admitted_that_is_none(address: str) -> None:
    """Whatever a resolver may say."""
    assert not AllowList([*EVERYTHING, "localhost", "127.0.0.0/8"]).admits("a.example", address)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("orders", "orders"),
        ("Orders.Internal", "orders.internal"),
        ("my_service", "my_service"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("FD00:0::7", "fd00::7"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:a9fe:a9fe", "169.254.169.254"),
        ("a" * 63 + ".b", "a" * 63 + ".b"),
    ],
)
def test_hosts(text: str, host: str) -> None:
    """A host has one spelling from here on."""
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "a\tb",
        "a\r\nb",
        "a\x00",
        "http://a",
        "//a",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "u@a",
        "a:80",
        "[::1]",
        "[::1]:80",
        "fe80::1%eth0",
        "1::2::3",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a" * 64,
        "a." * 127 + "b",
        "bücher.example",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "127.0.0.1\u200b",
        "*",
        "a%2e",
    ],
)
def test_no_hosts(text: str) -> None:
    """No URL, no port, no user, no space, nothing that is read in two ways."""
    with pytest.raises(ValueError, match="must be a host name"):
        parse_host(text)


@pytest.mark.parametrize(
    "host",
    [
        "2852039166",
        "0xa9fea9fe",
        "0xA9FEA9FE".lower(),
        "025177524776",
        "0",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "127.0.0.01",
        "0x7f.0.0.1",
        "0x7f.1",
        "169.254.43518",
        "169.16689662",
        "1.2.3.4.5",
        "256.1.1.1",
        "999",
        "0x",
        "orders.0x7f",
        "orders.1",
    ],
)
def test_numbers_that_are_no_address(host: str) -> None:
    """What inet_aton reads as an address although it does not look like one."""
    assert parse_host(host) == host
    assert looks_numeric(host)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "orders", "1password.example", "a1", "0xorders", "::1"]
)
def test_what_is_not_numeric(host: str) -> None:
    """Addresses in full, and names."""
    assert not looks_numeric(host)


def test_metadata_by_name() -> None:
    """What clouds call it; not names that only hold the word."""
    names = ["metadata.google.internal", "metadata", "metadata.goog", "instance-data"]
    assert all(map(is_metadata_name, names))
    assert not is_metadata_name("metadata.orders.internal")


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "a b",
        "http://a",
        "[a-z]*",
        "a?",
        "127.1",
        "2852039166",
        "a/b",
    ],
)
def test_rules_that_are_none(rule: str) -> None:
    """Neither a network nor a glob: ValueError names what was written."""
    with pytest.raises(ValueError, match="is no network|neither a network"):
        parse_rule(rule)
    with pytest.raises(ValueError, match="is no network|neither a network"):
        AllowList([rule])


NETWORKS = [ipaddress.ip_network(text) for text in ("169.254.0.0/16", "fe80::/10", "0.0.0.0/8")]


def inside(
    networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> st.SearchStrategy[str]:
    """Any address of these."""
    return st.one_of(
        st.integers(0, network.num_addresses - 1).map(
            lambda offset, network=network: str(network[offset])
        )
        for network in networks
    )


@given(
    address=inside(NETWORKS),
    rules=st.lists(st.sampled_from([*EVERYTHING, "169.254.0.0/16", "fe80::/10", "localhost"])),
)
def test_no_rules_let_in_what_is_forbidden(address: str, rules: list[str]) -> None:
    """Whichever they are, and in whichever way an IPv4 address is carried."""
    assert not AllowList(rules).admits("a.example", address)
    if "." in address:
        number = int(ipaddress.IPv4Address(address))
        carried = [
            ipaddress.IPv6Address(0xFFFF << 32 | number),
            ipaddress.IPv6Address(0x0064_FF9B << 96 | number),
            ipaddress.IPv6Address(0x2002 << 112 | number << 80),
        ]
        assert not any(AllowList(rules).admits("a.example", str(one)) for one in carried)


@given(text=st.text(max_size=40))
def test_any_host_is_one_or_none(text: str) -> None:
    """Reading a host never fails otherwise, and reading it again changes nothing."""
    try:
        host = parse_host(text)
    except ValueError:
        return
    assert parse_host(host) == host
    assert host.isascii()
