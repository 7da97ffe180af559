"""`compress` of routes: who has the stage, and what is said where a library is missing."""

import pytest
from pydantic import ValidationError

from propylon.config.models.coding import CompressConfig
from propylon.config.models.schema import GatewayConfig
from propylon.proxy.coding import codecs
from propylon.proxy.coding.compress import Compress
from tests.compile.compiled import World


def world(*compress: object, default: object = None) -> World:
    """Routes that say these."""
    routes = [
        {
            "path": f"/{at}",
            "service": "orders",
            "auth": "none",
            **({} if one is None else {"compress": one}),
        }
        for at, one in enumerate(compress)
    ]
    return World({"routes": routes, "defaults": {"compress": default}})


def test_a_route_pays_only_for_what_it_uses() -> None:
    """Without `compress` the stage is what it was; a default is taken off by `none`, and replaced by a route's own."""
    plain, packed = world(None).route, world(["gzip"]).route
    assert not isinstance(plain.forward, Compress)
    assert isinstance(packed.forward, Compress)
    of = [route.forward for route in world(None, "none", ["br"], default=["zstd", "gzip"]).routes]
    assert [isinstance(one, Compress) and one.rules.codings for one in of] == [
        (b"zstd", b"gzip"),
        False,
        (b"br",),
    ]
    assert world(["gzip"]).route.forward == packed.forward or packed.forward.then != plain.forward  # type: ignore[attr-defined]


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` says what to run; nothing is compressed in another coding behind the operator's back."""
    for coding in ("br", "zstd"):
        assert codecs.package_missing(coding) == ""
    monkeypatch.setitem(codecs._LIBRARIES, "br", (("no_such.brotli", "no_such_brotli"), "brotli"))
    assert codecs.package_missing("br") == "brotli"
    with pytest.raises(ValidationError) as refused:
        CompressConfig.model_validate({"encodings": ["gzip", "br"]})
    [problem] = refused.value.errors()
    assert problem["msg"].endswith(
        'br needs the package brotli, which is not installed; run: pip install "propylon[compression]"'
    )


def test_rules_are_read() -> None:
    """Types in any case, sizes with their units, and codings alone."""
    written = {
        "encodings": ["gzip"],
        "types": ["Text/HTML", "application/*+json"],
        "min_size": "2KiB",
        "level": 9,
    }
    config = GatewayConfig.model_validate(
        {
            "services": {"a": {"url": "http://a"}},
            "routes": [{"path": "/", "service": "a", "compress": written}],
        }
    )
    found = config.routes[0].compress
    assert found is not None
    assert (found.types, found.min_size, found.level) == (
        ("text/html", "application/*+json"),
        2048,
        9,
    )
