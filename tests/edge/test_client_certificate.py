"""A client's certificate as a principal and as headers: nothing in a name breaks out of its line."""

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.edge.client_certificate import read_certificate
from propylon.wire.headers import fields
from tests.support.examples import examples


def shown(*parts: tuple[str, str], **more: Any) -> dict[str, Any]:
    """What `getpeercert` returns for a subject of these parts."""
    return {"subject": tuple((part,) for part in parts), **more}


def headers(certificate: dict[str, Any]) -> dict[str, str]:
    """The headers, by name."""
    _, block = read_certificate(certificate, b"der")
    return {name.decode(): value.decode() for name, value in fields(block)}


def subject(*parts: tuple[str, str]) -> str:
    """The subject as the upstream gets it."""
    return headers(shown(*parts))["X-Client-Cert-Subject"]


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        ([("countryName", "AT"), ("organizationName", "Acme"), ("commonName", "ann")],
         "CN=ann,O=Acme,C=AT"),
        ([("commonName", 'a,b+c=d;e<f>g\\h"i')], 'CN=a\\,b\\+c\\=d\\;e\\<f\\>g\\\\h\\"i'),
        ([("commonName", " ann ")], "CN=\\20ann\\20"),
        ([("commonName", "#ann")], "CN=\\#ann"),
        ([("commonName", "Zoë")], "CN=Zo\\C3\\AB"),
        ([("commonName", "a\r\nX-User-Id: root")], "CN=a\\0D\\0AX-User-Id: root"),
        ([("commonName", "a\x00b")], "CN=a\\00b"),
        ([("emailAddress", "a@b"), ("1.2.3", "x")], "1.2.3=x,emailAddress=a@b"),
    ],
)  # fmt: skip
def test_the_subject(parts: list[tuple[str, str]], written: str) -> None:
    """As RFC 4514 writes it, the most specific part first, in visible ASCII."""
    assert subject(*parts) == written
    holder, _ = read_certificate(shown(*parts), b"der")
    assert holder is not None
    assert (holder.subject, holder.scopes, holder.roles) == (written, frozenset(), frozenset())


def test_several_values_in_one_part() -> None:
    """They are joined by a plus."""
    both = {"subject": ((("commonName", "ann"), ("userId", "7")),)}
    assert headers(both)["X-Client-Cert-Subject"] == "CN=ann+UID=7"


def test_all_headers() -> None:
    """Each fact has its header, and a fact that is missing has none."""
    whole = shown(
        ("commonName", "ann"),
        issuer=((("commonName", "authority"),),),
        serialNumber="0A1B",
        notAfter="Jan  1 00:00:00 2030 GMT",
        subjectAltName=(
            ("DNS", "a.example"),
            ("URI", "spiffe://x/y z,q"),
            ("IP Address", "10.0.0.1"),
            ("email", "a@b"),
            ("othername", "<unsupported>"),
        ),
    )
    assert headers(whole) == {
        "X-Client-Cert-Subject": "CN=ann",
        "X-Client-Cert-Issuer": "CN=authority",
        "X-Client-Cert-Serial": "0A1B",
        "X-Client-Cert-Names": "DNS:a.example, URI:spiffe://x/y%20z%2Cq, IP:10.0.0.1, email:a@b",
        "X-Client-Cert-Not-After": "Jan  1 00:00:00 2030 GMT",
        "X-Client-Cert-Fingerprint": sha256(b"der").hexdigest(),
    }
    assert set(headers(shown(("commonName", "a")))) == {
        "X-Client-Cert-Subject",
        "X-Client-Cert-Fingerprint",
    }


def test_a_holder_without_a_subject() -> None:
    """A certificate that names its holder by an alternative name alone, as SPIFFE's do; or not at all."""
    names = (("URI", "spiffe://x/y"), ("DNS", "a.example"))
    holder, _ = read_certificate({"subject": (), "subjectAltName": names}, b"der")
    assert holder is not None
    assert holder.subject == "URI:spiffe://x/y"
    nobody, block = read_certificate({"subject": ()}, b"der")
    assert nobody is None
    assert block.startswith(b"\r\nX-Client-Cert-Fingerprint: ")


def test_many_names_are_cut() -> None:
    """A certificate for thousands of names does not fill the upstream's limit on heads."""
    names = tuple(("DNS", f"host-{number}.example") for number in range(5000))
    listed = headers(shown(("commonName", "a"), subjectAltName=names))["X-Client-Cert-Names"]
    assert len(listed) <= 4096
    assert listed.startswith("DNS:host-0.example, DNS:host-1.example, ")
    assert listed.endswith(".example")


_TEXT = st.text(max_size=30)


@given(
    st.lists(st.tuples(st.sampled_from(["commonName", "organizationName", "2.5"]), _TEXT)), _TEXT
)
@examples(400)
def test_no_name_breaks_out(parts: list[tuple[str, str]], name: str) -> None:
    """Whatever an authority has signed: one line for each header, in visible ASCII, and a principal that fits."""
    certificate = shown(*parts, issuer=(), subjectAltName=(("URI", name),))
    holder, block = read_certificate(certificate, b"der")
    lines = block.split(b"\r\n")[1:]
    assert all(line.startswith(b"X-Client-Cert-") for line in lines)
    assert all(0x20 <= byte <= 0x7E for line in lines for byte in line)
    assert all(value == value.strip() for _, value in fields(block))
    assert holder is None or holder.block.count(b"\r\n") <= 2
