"""Decide which hosts may be registered, and to which addresses the gateway may connect. Pure.

Facts. The gateway stands inside the network. A client that may register any host can have it ask the cloud's metadata
service for the machine's credentials: server-side request forgery (SSRF).

Rules.

1. The operator lists what may be registered (`registry.allow`); without a list, nothing may.
2. Link-local, metadata, multicast and tunnel addresses are refused whatever the list says.
3. The gateway's own host counts only if the list names it: `*` and `0.0.0.0/0` do not.
4. What counts is the address that is connected to, not the name that was registered: a name may resolve to another
   address a moment later (DNS rebinding). `upstream.dial` asks `admits` for each address.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

__all__ = [
    "IPV6_BITS",
    "AddressFilter",
    "AllowList",
    "is_forbidden",
    "is_loopback",
    "is_metadata_name",
    "looks_numeric",
    "parse_address",
    "parse_host",
    "parse_rule",
    "subnet",
]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# Whether a connection to this address may be made.
AddressFilter = Callable[[str], bool]

_LOCALHOST = "localhost"
# RFC 1035, 2.3.4: a label has at most 63 characters, a name 253 as text.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# RFC 952 has no underscores in host names, but Docker Compose gives them to containers.
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
# WHATWG URL, "ends in a number": inet_aton, and so getaddrinfo, reads 127.1, 0x7f000001,
# 017700000001 and 2852039166 as IPv4 addresses. An attacker spells 169.254.169.254 that way, past a
# list. Here an address has one spelling.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_GLOB = re.compile(r"[a-z0-9_.*-]{1,253}")
# `10.*` is meant for addresses; 10.example.com is a name, and its owner may point it at any
# address.
_NUMERIC_GLOB = re.compile(r"[0-9.*]*[0-9][0-9.*]*")

_LOOPBACK_4 = IPv4Network("127.0.0.0/8")
_LOOPBACK_6 = IPv6Network("::1/128")
_NAT64 = IPv6Network("64:ff9b::/96")
# The interface identifiers of ISATAP (RFC 5214, 6.1), with and without the "universal" bit.
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})

_NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # "this host" (RFC 1122, 3.2.1.3): Linux connects 0.0.0.0 to itself
        "169.254.0.0/16",  # link-local; the metadata of AWS, Azure, Google and most others
        "100.100.100.200/32",  # Alibaba Cloud's metadata
        "168.63.129.16/32",  # Azure's WireServer, which hands out certificates
        "192.0.0.0/24",  # protocol assignments (RFC 6890); Oracle Cloud's metadata at 192.0.0.192
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and 255.255.255.255
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local, withdrawn (RFC 3879)
        "ff00::/8",  # multicast
        "2001::/32",  # Teredo and
        "2002::/16",  # 6to4 carry any IPv4 address; both are out of use (RFC 7526)
        "64:ff9b:1::/48",  # local translation (RFC 8215): its operator chooses where the IPv4 address stands
        "fd00:ec2::/32",  # AWS's metadata, time and DNS over IPv6
        "fd00:c1::a9fe:a9fe/128",  # Oracle Cloud's
        "fd00:42::42/128",  # Scaleway's
        "fd20:ce::254/128",  # Google Cloud's
    )
)
# The addresses behind these names are forbidden, but a cloud may move its service to another one.
_METADATA_NAMES = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata",
        "metadata.azure.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
        "rancher-metadata",
        "rancher-metadata.rancher.internal",
    }
)


def parse_address(text: str) -> Address | None:
    """Return the IP address that a text spells, or None; an IPv4-mapped IPv6 address is returned as IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def parse_host(text: str) -> str:
    """Return a host as it is compared: a name in lower case, or an address in its one spelling.

    Raises ValueError for anything else: a URL, a port, a user, a space.
    """
    # Without `%`: a zone of a link-local address (RFC 4007) means another interface on another
    # host.
    if ":" in text and "%" not in text:
        address = parse_address(text)
        if address is not None:
            return str(address)
    name = text.lower()
    if not text.isascii() or not _NAME.fullmatch(name):
        msg = "must be a host name or an IP address: no scheme, port, path, user or space"
        raise ValueError(msg)
    return name


def looks_numeric(host: str) -> bool:
    """Whether a resolver may read this host as an IPv4 address although it is not spelled like one."""
    return _NUMERIC.fullmatch(host) is not None and parse_address(host) is None


def is_metadata_name(host: str) -> bool:
    """Whether this is a name under which a cloud offers its metadata service."""
    return host in _METADATA_NAMES


def is_loopback(address: Address) -> bool:
    """Whether this is a loopback address: 127.0.0.0/8 (RFC 1122) or ::1 (RFC 4291)."""
    return address in _LOOPBACK_4 or address in _LOOPBACK_6


def is_forbidden(address: Address) -> bool:
    """Whether the gateway must never connect there; for loopback addresses `AllowList` decides."""
    if isinstance(address, IPv6Address):
        if address == IPv6Address("::1"):
            return False
        # 64:ff9b::a9fe:a9fe reaches 169.254.169.254 through a translator.
        embedded = _embedded(address)
        if embedded is not None and (is_forbidden(embedded) or is_loopback(embedded)):
            return True
        # Most of ::/8 is reserved, translated addresses (RFC 6052) are the exception.
        if address.is_reserved and address not in _NAT64:
            return True
    return address.is_unspecified or any(address in network for network in _NEVER)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address to which a translator (NAT64) or a tunnel (ISATAP) would connect, if there is one."""
    value = int(address)
    if address in _NAT64 or (value >> 32) & 0xFFFF_FFFF in _ISATAP:
        return IPv4Address(value & 0xFFFF_FFFF)
    return None


def parse_rule(text: str) -> Network | str:
    """Return one entry of an allow list: a network (an address is one of itself), or a host glob in lower case.

    Raises ValueError, whose message tells the operator what to write instead.
    """
    address = parse_address(text)
    if "/" in text or address is not None:
        try:
            return ip_network(address or text)
        except ValueError as error:
            msg = f'"{text}" is no network: {error}'
            raise ValueError(msg) from None
    glob = text.lower()
    if not _GLOB.fullmatch(glob) or (looks_numeric(glob) and "*" not in glob):
        msg = f'"{text}" is neither a network such as 10.0.0.0/8 nor a host such as *.internal'
        raise ValueError(msg)
    return glob


class AllowList:
    """The hosts and networks that may be registered: in a glob, `*` stands for any characters."""

    __slots__ = ("_addresses", "_local", "_localhost", "_names", "_networks")

    def __init__(self, rules: Iterable[str]) -> None:
        """Compile the rules; without one, nothing may be registered. Raises what `parse_rule` raises."""
        parsed = [parse_rule(rule) for rule in rules]
        globs = [rule for rule in parsed if isinstance(rule, str)]
        self._networks = tuple(rule for rule in parsed if not isinstance(rule, str))
        self._names = _patterns(glob for glob in globs if not _NUMERIC_GLOB.fullmatch(glob))
        self._addresses = _patterns(
            glob for glob in globs if _NUMERIC_GLOB.fullmatch(glob) or not glob.strip("*")
        )
        # Programs beside the gateway often trust all connections from their own host. An operator
        # who wants those registered names them: 127.0.0.1, 127.0.0.0/8, ::1 or localhost.
        self._local = tuple(network for network in self._networks if _is_local(network))
        self._localhost = _LOCALHOST in globs

    def __bool__(self) -> bool:
        """Whether anything may be registered."""
        return bool(self._networks or self._names or self._addresses)

    def matches_name(self, host: str) -> bool:
        """Whether a glob matches this host; `admits` still has to look at its addresses."""
        address = parse_address(host)
        patterns = self._names if address is None else self._addresses
        return any(pattern.fullmatch(host) for pattern in patterns)

    def may_lead(self, host: str) -> bool:
        """Whether `host` may be registered, provided that its addresses are admitted."""
        return bool(self._networks) or self.matches_name(host)

    def admits(self, host: str, address: str) -> bool:
        """Whether the gateway may connect to `address`, to which `host` resolves."""
        parsed = parse_address(address)
        if parsed is None or is_forbidden(parsed):
            return False
        if is_loopback(parsed):
            named = any(parsed in network for network in self._local)
            return named or (self._localhost and host == _LOCALHOST)
        return self.matches_name(host) or any(parsed in network for network in self._networks)


def _is_local(network: Network) -> bool:
    if isinstance(network, IPv4Network):
        return network.subnet_of(_LOOPBACK_4)
    return network == _LOOPBACK_6


def _patterns(globs: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(fnmatch.translate(glob)) for glob in globs)


# An internet provider gives each customer a /64 or more (RFC 6177). Counted by single addresses, a client would be 2^64
# clients.
IPV6_BITS = 64


def subnet(client: str, bits: int = IPV6_BITS) -> str:
    """Return the address, or for IPv6 its network of so many bits, that stands for one client."""
    if ":" not in client:
        return client
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, IPv6Address):
        # A dual-stack socket shows IPv4 clients so. By their /64 they would all share one bucket.
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return f"{int(address) >> 128 - bits:0{(bits + 3) // 4}x}/{bits}"
    return client
