"""Trailers pass unless a reader that merges them into the headers would be misled."""

import pytest

from propylon.wire.trailers import permitted


@pytest.mark.parametrize(
    "name", [b"grpc-status", b"Grpc-Message", b"X-Checksum", b"Server-Timing", b"Digest"]
)
def test_these_pass(name: bytes) -> None:
    """The status of a call, and what is computed while the body is sent."""
    assert permitted(b"\r\n%b: 1" % name) == b"\r\n%b: 1" % name


@pytest.mark.parametrize(
    "name",
    [
        b"Transfer-Encoding", b"content-length", b"Content-Type", b"Host", b"Trailer", b"Connection", b"TE",
        b"Authorization", b"Set-Cookie", b"WWW-Authenticate", b"Proxy-Authenticate", b"Cache-Control", b"Location",
        b"Access-Control-Allow-Origin", b"X-Request-ID", b"X-Error-Source", b"X-User-Id", b"X_User_Id",
        b"X-Forwarded-For", b"Content_Length", b"RateLimit-Policy",
    ],
)  # fmt: skip
def test_these_do_not(name: bytes) -> None:
    """What frames, routes, authenticates or controls (RFC 9110, 6.5.1), and what the gateway says itself."""
    assert permitted(b"\r\n%b: 1\r\nX-Other: 2" % name) == b"\r\nX-Other: 2"
