"""The path that a service gets."""

import pytest

from propylon.proxy.rewrite import Rewrite

STRIP = Rewrite(1)
PLAIN = Rewrite(1, (b"/", b"v2"), text="/v2")
SLASH = Rewrite(1, (b"/", b"fancy", b"/", b"path"), slash=True, text="/fancy/path/")
ROOT = Rewrite(0, (b"/", b"v2"), text="/v2")
NAMED = Rewrite(2, (b"/", b"orders", b"/", 1), text="/orders/{id}")


@pytest.mark.parametrize(
    ("rewrite", "sent", "base", "gets"),
    [
        (STRIP, b"/f", b"", b"/"),
        (STRIP, b"/f/", b"", b"/"),
        (STRIP, b"/f/x%2Fy/", b"", b"/x%2Fy/"),
        (STRIP, b"/f", b"/base", b"/base"),
        (STRIP, b"/f/x", b"/base", b"/base/x"),
        (STRIP, b"/f//evil.test/x", b"", b"/evil.test/x"),
        (STRIP, b"/f///evil.test", b"", b"/evil.test"),
        (STRIP, b"/f/\\evil.test", b"", b"/evil.test"),
        (STRIP, b"/f//x", b"/base", b"/base//x"),
        (PLAIN, b"/f", b"", b"/v2"),
        (PLAIN, b"/f/", b"", b"/v2/"),
        (PLAIN, b"/f/x", b"", b"/v2/x"),
        (SLASH, b"/f", b"", b"/fancy/path/"),
        (SLASH, b"/f/", b"", b"/fancy/path/"),
        (SLASH, b"/f/x", b"/base", b"/base/fancy/path/x"),
        (ROOT, b"/", b"", b"/v2"),
        (ROOT, b"/x", b"", b"/v2/x"),
        (ROOT, b"/x/", b"/base", b"/base/v2/x/"),
        (NAMED, b"/tenants/a%20b", b"", b"/orders/a%20b"),
        (NAMED, b"/tenants/7/items", b"", b"/orders/7/items"),
        (Rewrite(1, (), slash=True, text="/"), b"/f", b"", b"/"),
        (Rewrite(1, (), slash=True, text="/"), b"/f/x", b"", b"/x"),
    ],
)
def test_path(rewrite: Rewrite, sent: bytes, base: bytes, gets: bytes) -> None:
    """The matched part is replaced, the rest is kept byte for byte, and no path of another host is made."""
    assert rewrite.apply(sent, base) == gets


@pytest.mark.parametrize(
    ("rewrite", "sent", "prefix", "replacement"),
    [
        (STRIP, b"/f/x", b"/f", b""),
        (STRIP, b"/f", b"/f", b""),
        (SLASH, b"/f/x", b"/f", b"/fancy/path"),
        (NAMED, b"/tenants/7/items", b"/tenants/7", b"/orders/7"),
        (ROOT, b"/x", b"", b"/v2"),
        (STRIP, b"/\\evil.test/x", b"/%5Cevil.test", b""),
    ],
)
def test_what_is_replaced(rewrite: Rewrite, sent: bytes, prefix: bytes, replacement: bytes) -> None:
    """The public prefix as the client sent it, and what stands for it behind the gateway."""
    assert (rewrite.prefix(sent), rewrite.replacement(sent)) == (prefix, replacement)
    assert rewrite.strips is (rewrite is STRIP)
