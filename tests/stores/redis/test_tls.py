"""Redis over TLS: the certificate is verified, unless the operator says otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr

from propylon.compile.redis import compile_redis
from propylon.config.models.redis import RedisConfig
from propylon.stores.redis.connection import Lost
from propylon.stores.redis.trial import try_redis
from tests.stores.redis.scripted import Peer
from tests.upstream.peer import run
from tests.upstream.test_dial import _certificate

REFUSED = "certificate verify failed"


async def tried(folder: Path, names: tuple[str, ...], query: str) -> Peer:
    """Try a server with a certificate for these names, by a URL with this query."""
    listening, _ = _certificate(folder, *names)
    peer = await Peer().listen(listening)
    try:
        url = SecretStr(f"rediss://127.0.0.1:{peer.address.port}?{query}")
        target = compile_redis(RedisConfig(url=url))
        assert target is not None
        await try_redis(target)
    finally:
        peer.close()
        await asyncio.sleep(0.05)
    return peer


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("127.0.0.1", "ssl_ca_certs={folder}/both.pem"),
        ("redis.test", "ssl_ca_certs={folder}/both.pem&ssl_check_hostname=false"),
        ("redis.test", "ssl_cert_reqs=none"),
    ],
)
def test_certificate_that_is_trusted(tmp_path: Path, name: str, query: str) -> None:
    """By its authority and its name; by its authority alone; or by the operator's word."""
    peer = run(tried(tmp_path, (name,), query.format(folder=tmp_path)))
    assert b"EVALSHA" in peer.names


@pytest.mark.parametrize(
    ("name", "query"), [("127.0.0.1", ""), ("redis.test", "ssl_ca_certs={folder}/both.pem")]
)
def test_certificate_that_is_not(tmp_path: Path, name: str, query: str) -> None:
    """One of an unknown authority, or for another name, is refused, and nothing is sent."""
    with pytest.raises(Lost, match=REFUSED):
        run(tried(tmp_path, (name,), query.format(folder=tmp_path)))
