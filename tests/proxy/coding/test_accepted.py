"""Which coding a client wants. RFC 9110, 12.5.3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.coding.accepted import Chooser, chosen
from tests.support.examples import examples

OFFERED = (b"br", b"zstd", b"gzip")


@pytest.mark.parametrize(
    ("line", "coding"),
    [
        (b"", None),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"br"),
        (b"gzip;q=1.0, br;q=0.5", b"gzip"),
        (b"GZIP ; Q=0.2 , br;q=0", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"*", b"br"),
        (b"*;q=0.5, br;q=0", b"zstd"),
        (b"*;q=0", None),
        (b"identity;q=0, gzip", b"gzip"),
        (b"identity;q=0", None),
        (b"identity;q=0, *", b"br"),
        (b"identity, gzip;q=0.5", None),
        (b"identity;q=0.5, gzip;q=0.5", b"gzip"),
        (b"gzip;q=0", None),
        (b"gzip;q=0.000", None),
        (b"gzip;q=0.001", b"gzip"),
        (b"gzip;q=2, br;q=x, zstd;a=1", None),
        (b"deflate, compress", None),
        (b",, ,gzip,", b"gzip"),
        (b"gzip;q=0, gzip", b"gzip"),
    ],
)
def test_what_a_line_wants(line: bytes, coding: bytes | None) -> None:
    """Weights decide, then the operator's order; what has no weight of its own has that of the star."""
    assert chosen((line,), OFFERED) == coding


WEIGHT = st.sampled_from([None, "0", "0.3", "0.5", "1", "1.000"])
NAMES = ("br", "zstd", "gzip", "identity", "*", "deflate")


@given(st.dictionaries(st.sampled_from(NAMES), WEIGHT), st.permutations(OFFERED))
@examples(300)
def test_nothing_is_wanted_more(wants: dict[str, str | None], offered: list[bytes]) -> None:
    """What is chosen is not refused, and the client wants none of the others more."""
    line = ", ".join(name if q is None else f"{name};q={q}" for name, q in wants.items())
    weights = {name: 1.0 if q is None else float(q) for name, q in wants.items()}

    def weight(coding: bytes) -> float:
        return weights.get(coding.decode(), weights.get("*", 0.0))

    found = chosen((line.encode(),), offered)
    best = max(map(weight, offered))
    if found is None:
        assert best == 0 or best < weights.get("identity", 0.0)
    else:
        assert weight(found) == best > 0
        assert best >= weights.get("identity", 0.0)
        assert all(weight(one) < best for one in offered[: offered.index(found)])


def test_lines_are_one_list_and_are_remembered() -> None:
    """RFC 9110, 5.3; a client that sends another line each time fills no memory."""
    chooser = Chooser(OFFERED)
    block = b"\r\nAccept: */*\r\naccept-encoding: gzip\r\nX: y\r\nAccept-Encoding:br;q=0.1"
    assert [chooser.of(block) for _ in range(2)] == [b"gzip"] * 2
    assert chooser.of(b"\r\nX-Accept-Encoding: gzip") is None
    for at in range(1000):
        assert chooser.of(b"\r\nAccept-Encoding: x%d, br" % at) == b"br"
    assert chooser.of(b"\r\nAccept-Encoding: br" + b", a" * 1000) == b"br"
    assert len(chooser._known) <= 256
