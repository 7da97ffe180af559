"""Read a client's certificate: its principal, and the headers that tell the upstream of it (X-Client-Cert-*). Pure.

Facts. OpenSSL has verified the certificate in the handshake. What stands in it was chosen by the client and signed by an
authority, and authorities sign strange names. An upstream trusts these headers blindly.

Rules.

1. Nothing but visible ASCII and spaces goes into a header. In a name every other byte is written as two hexadecimal
   digits (RFC 4514, 2.4), in a list of alternative names as `%XX`.
2. The subject is the whole name, so that two holders of one CN under two organisations stay two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from propylon.proxy.principal import Principal, identify

__all__ = ["read_certificate"]

# RFC 4514, 3: the short names. OpenSSL says the long ones; a type that is not in the table keeps its long name or number.
_SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
# RFC 4514, 2.4: what has to be escaped, and where.
_SPECIAL = re.compile(r'[",+;<>\\=]|^#')
_SPACE_AT_AN_END = re.compile(r"^ | $")
_SAFE_IN_NAMES = ":/@.-_~[]"
# Kinds of alternative names that say who the holder is, by what they are called in the header.
_KINDS = {"DNS": "DNS", "URI": "URI", "email": "email", "IP Address": "IP"}
# Of the header in bytes: a certificate for a thousand names must not fill the upstream's limit on heads.
_MOST_NAMES = 4096


def read_certificate(shown: Mapping[str, Any], der: bytes) -> tuple[Principal | None, bytes]:
    """Return the certificate's principal and the block for the upstream; None for a certificate that names no holder.

    `shown` is what `ssl.SSLObject.getpeercert` returns, `der` the certificate itself.
    """
    subject = _name(shown.get("subject", ()))
    issuer = _name(shown.get("issuer", ()))
    names = list(_alternatives(shown.get("subjectAltName", ())))
    lines = (
        ("Subject", subject),
        ("Issuer", issuer),
        ("Serial", str(shown.get("serialNumber", ""))),
        ("Names", _listed(names)),
        ("Not-After", str(shown.get("notAfter", ""))),
        ("Fingerprint", sha256(der).hexdigest()),
    )
    block = "".join(f"\r\nX-Client-Cert-{name}: {value}" for name, value in lines if value)
    return _holder(subject or next(iter(names), ""), issuer), block.encode("ascii")


def _holder(subject: str, issuer: str) -> Principal | None:
    if not subject:
        return None
    # The issuer is told in any case: a token may have the same subject.
    return identify(Principal(subject, issuer=issuer), tells_issuer=True)


def _name(name: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """Return a distinguished name as RFC 4514 writes it: the most specific part first."""
    return ",".join("+".join(_part(*pair) for pair in parts) for parts in reversed(name))


def _part(kind: str, value: str) -> str:
    escaped = _SPECIAL.sub(lambda match: "\\" + match[0], value)
    # As digits, because recipients strip the space at the end of a header.
    escaped = _SPACE_AT_AN_END.sub(r"\\20", escaped)
    return f"{_SHORT.get(kind, kind)}={''.join(map(_visible, escaped))}"


def _visible(char: str) -> str:
    if " " <= char <= "~":
        return char
    return "".join(f"\\{byte:02X}" for byte in char.encode("utf-8", "replace"))


def _alternatives(names: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for kind, value in names:
        if kind in _KINDS and isinstance(value, str):
            yield f"{_KINDS[kind]}:{quote(value, safe=_SAFE_IN_NAMES)}"


def _listed(names: list[str]) -> str:
    """Join as many names as fit."""
    listed = ""
    for name in names:
        longer = f"{listed}, {name}" if listed else name
        if len(longer) > _MOST_NAMES:
            break
        listed = longer
    return listed
