"""Contexts for TLS to upstreams, and what is said of a handshake that failed."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography.hazmat.primitives import serialization

from propylon.errors import UpstreamReset
from propylon.loop.outbox import Outbox
from propylon.loop.ticker import NEVER, Ticker
from propylon.upstream.dial import Address
from propylon.upstream.pool import Pool
from propylon.upstream.ports import Outgoing, Timeouts
from propylon.upstream.tls import (
    SYSTEM_TRUST,
    TlsSettings,
    find_truncation,
    tls_context,
    tls_failure,
)
from tests.support import answers
from tests.support.secure import Authority, SecureUpstream, close_notify, fin
from tests.upstream.peer import Collected


def test_equal_settings_have_one_context(tmp_path: Path) -> None:
    """Pools are kept by the context: equal settings share connections, and other settings never do."""
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    identity = first.issue("a")
    certificate, key = identity.chain.read_text(), identity.key.read_text()
    settings = [
        SYSTEM_TRUST,
        TlsSettings(verify=False),
        TlsSettings(ca=first.file.read_text()),
        TlsSettings(ca=second.file.read_text()),
        TlsSettings(certificate=certificate, key=key),
        TlsSettings(certificate=certificate, key=key, verify=False),
    ]
    contexts = [tls_context(one) for one in settings]
    assert len(set(map(id, contexts))) == len(settings)
    assert tls_context(TlsSettings()) is contexts[0]
    assert tls_context(TlsSettings(ca=first.file.read_text())) is contexts[2]


def test_what_is_checked(tmp_path: Path) -> None:
    """Certificates and their names are checked, unless the operator says otherwise; nothing older than TLS 1.2."""
    for settings in (SYSTEM_TRUST, TlsSettings(ca=Authority(tmp_path).file.read_text())):
        context = tls_context(settings)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    context = tls_context(TlsSettings(verify=False))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_only_the_ca_is_trusted(tmp_path: Path) -> None:
    """With a `ca` the authorities of the system count no more."""
    context = tls_context(TlsSettings(ca=Authority(tmp_path).file.read_text()))
    assert context.cert_store_stats()["x509"] == 1


def test_pem_that_cannot_be_used(tmp_path: Path) -> None:
    """Each mistake is a ValueError, which quotes nothing of the key."""
    ca = Authority(tmp_path)
    one, other = ca.issue("a"), ca.issue("b")
    certificate, key = one.chain.read_text(), one.key.read_text()
    loaded = serialization.load_pem_private_key(key.encode(), None)
    encrypted = loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()
    for settings, said in (
        (TlsSettings(ca="nonsense"), "no certificate could be read"),
        (TlsSettings(ca=key), "no certificate could be read"),
        (TlsSettings(certificate=certificate, key=other.key.read_text()), "key values mismatch"),
        (TlsSettings(certificate=certificate, key="nonsense"), "cannot be used together"),
        (TlsSettings(certificate="nonsense", key=key), "cannot be used together"),
        (TlsSettings(certificate=certificate, key=encrypted), "cannot be used together"),
    ):
        with pytest.raises(ValueError, match=said) as failed:
            tls_context(settings)
        assert key.splitlines()[1] not in str(failed.value)
        assert key.splitlines()[1] not in repr(settings)


def test_without_files_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system that has no files in memory, the key goes through a file that has no name."""
    monkeypatch.delattr("os.memfd_create", raising=False)
    identity = Authority(tmp_path).issue("a")
    settings = TlsSettings(certificate=identity.chain.read_text(), key=identity.key.read_text())
    assert isinstance(tls_context(settings), ssl.SSLContext)


def test_what_is_said_of_a_failure() -> None:
    """A certificate that fails has its check named; the rest is said in OpenSSL's or the system's words."""
    refused = ssl.SSLCertVerificationError(1, "long text")
    refused.verify_message = "certificate has expired"
    said = (
        "certificate verify failed: certificate has expired; it has to be a certificate of a.test"
    )
    assert tls_failure(refused, "a.test") == said
    plain = ssl.SSLError(1, "[SSL] something (_ssl.c:1)")
    assert tls_failure(plain, "a.test") == "no TLS handshake: [ssl] something"
    assert tls_failure(ConnectionRefusedError(111, "Refused"), "a") == "[Errno 111] Refused"
    assert tls_failure(ConnectionResetError(), "a") == "ConnectionResetError"


def test_a_connection_without_tls_is_not_truncated() -> None:
    """Only TLS tells an end that was meant from one that was forged."""

    class Plain:
        """A transport."""

        def get_extra_info(self, name: str) -> None:
            """Nothing of TLS."""

    assert find_truncation(None) is None
    assert find_truncation(Plain()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
@pytest.mark.parametrize(("end", "whole"), [(fin, False), (close_notify, True)])
def test_how_tls_ends_on_either_loop(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop], end: Any, whole: bool
) -> None:
    """Uvloop and asyncio hide the difference, and an application may run on either: the gateway sees it on both."""
    ca = Authority(tmp_path)
    context = tls_context(TlsSettings(ca=ca.file.read_text()))

    async def main(port: int) -> bytes:
        running = asyncio.get_running_loop()
        ticker, outbox = Ticker(running, 0.005), Outbox(running)
        address = Address("127.0.0.1", port, context)
        pool = Pool(address, limit=1, ticker=ticker, outbox=outbox, loop=running)
        line, block = b"GET /x HTTP/1.1", b"\r\nHost: a"
        outgoing = Outgoing("GET", line, block, None, Timeouts(), NEVER)
        sink = Collected()
        try:
            await (await pool.send(outgoing, sink)).pipe(sink)
        finally:
            await asyncio.sleep(0.05)
        assert sink.finished
        return sink.data

    with SecureUpstream(tls=ca.serving("127.0.0.1")) as up:
        up.on("/x", answers.raw(b"HTTP/1.1 200 OK\r\n\r\n", b"hello", pause=0.02, end=end))
        with asyncio.Runner(loop_factory=loop) as runner:
            if whole:
                assert runner.run(main(up.port)) == b"hello"
            else:
                with pytest.raises(UpstreamReset) as cut:
                    runner.run(main(up.port))
                assert "close_notify" in cut.value.reason
