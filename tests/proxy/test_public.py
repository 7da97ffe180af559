"""Addresses of an answer, as the client knows them."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.proxy.public import Public, Site
from tests.support.examples import examples

HOSTS = (b"orders:8000", b"10.0.0.7:8000")
SHOP = Site(HOSTS, b"", b"/shop")
BASED = Site(HOSTS, b"/base/v1", b"/shop")
SAME = Site(HOSTS, b"", b"")
PUBLIC = Site(HOSTS, b"", b"/shop", b"https://api.test")


@pytest.mark.parametrize(
    ("site", "sent", "gets"),
    [
        (SHOP, b"http://orders:8000/items/?a=1", b"/shop/items/?a=1"),
        (SHOP, b"https://ORDERS:8000/items/#top", b"/shop/items/#top"),
        (SHOP, b"http://10.0.0.7:8000/items/", b"/shop/items/"),
        (SHOP, b"//orders:8000/items/", b"/shop/items/"),
        (SHOP, b"http://orders:8000", b"/shop/"),
        (SHOP, b"http://orders:8000?a", b"/shop/?a"),
        (SHOP, b"/items/", b"/shop/items/"),
        (SHOP, b"/", b"/shop/"),
        (SHOP, b"/shop/items/", b"/shop/items/"),
        (SHOP, b"/shop", b"/shop"),
        (SHOP, b"/shopping", b"/shop/shopping"),
        (SHOP, b"http://orders:8000/shop/items/", b"/shop/items/"),
        (SHOP, b"items/", b"items/"),
        (SHOP, b"?page=2", b"?page=2"),
        (SHOP, b"../x", b"../x"),
        (SHOP, b"", b""),
        (SHOP, b"http://orders:8001/items/", b"http://orders:8001/items/"),
        (SHOP, b"http://orders/items/", b"http://orders/items/"),
        (SHOP, b"http://evil.test/items/", b"http://evil.test/items/"),
        (SHOP, b"//evil.test/items/", b"//evil.test/items/"),
        (SHOP, b"http://me@orders:8000/x", b"http://me@orders:8000/x"),
        (SHOP, b"ftp://orders:8000/x", b"ftp://orders:8000/x"),
        (SHOP, b"mailto:a@orders", b"mailto:a@orders"),
        (BASED, b"http://orders:8000/base/v1/items/", b"/shop/items/"),
        (BASED, b"/base/v1", b"/shop"),
        (BASED, b"/base/v1?x", b"/shop?x"),
        (BASED, b"/shop/items/", b"/shop/items/"),
        (BASED, b"/login", b"/login"),
        (BASED, b"http://orders:8000/login", b"/login"),
        (SAME, b"http://orders:8000/items/", b"/items/"),
        (SAME, b"http://orders:8000//evil.test/x", b"/evil.test/x"),
        (SAME, b"http://orders:8000/\\evil.test/x", b"/evil.test/x"),
        (SAME, b"/items/", b"/items/"),
        (PUBLIC, b"http://orders:8000/items/", b"https://api.test/shop/items/"),
        (PUBLIC, b"/items/", b"/shop/items/"),
        (Site((b"orders",), b"", b"/shop"), b"http://orders/x", b"/shop/x"),
        (Site((b"orders",), b"", b"/shop"), b"https://orders:443/x", b"/shop/x"),
        (Site((b"orders",), b"", b"/shop"), b"http://orders:81/x", b"http://orders:81/x"),
        (Site((b"o:1",), b"/api", b"/api/orders"), b"/api/orders/7", b"/api/orders/7"),
        (Site((b"o:1",), b"/shop/v2", b"/shop"), b"/shop/v2/7", b"/shop/7"),
    ],
)
def test_reference(site: Site, sent: bytes, gets: bytes) -> None:
    """The instance's own addresses become public paths; all others are left as they are."""
    assert site.reference(sent) == gets


_pieces = st.sampled_from(
    [b"/", b"//", b"\\", b"http:", b"orders:8000", b"evil.test", b"@", b"?", b"#", b"x", b":", b";"]
)


@given(st.lists(_pieces, max_size=8).map(b"".join), st.sampled_from([SHOP, BASED, SAME]))
@examples(400)
def test_no_new_host(sent: bytes, site: Site) -> None:
    """What led to the instance never leads to a third host after the change, as a browser resolves it."""
    found = site.reference(sent)
    if found != sent:
        resolved = urljoin("http://gateway/a", found.decode().replace("\\", "/"))
        assert urlsplit(resolved).netloc == "gateway"


@pytest.mark.parametrize(
    ("line", "gets"),
    [
        (b"Location: http://orders:8000/a", b"Location: /shop/a"),
        (b"content-location:/a", b"content-location: /shop/a"),
        (b"Refresh: 5; url=/a", b"Refresh: 5; url=/shop/a"),
        (b"Refresh: 0;URL='http://orders:8000/a'", b"Refresh: 0;URL='/shop/a'"),
        (b'Refresh: 1.5, "/a"', b'Refresh: 1.5, "/shop/a"'),
        (b"Refresh: 5", b"Refresh: 5"),
        (b"Refresh: 5; url=https://other.test/", b"Refresh: 5; url=https://other.test/"),
        (
            b'Link: </a>; rel="next"; title="</b>", <http://orders:8000/c>;rel=prev, <x>;rel=up',
            b'Link: </shop/a>; rel="next"; title="</b>", </shop/c>;rel=prev, <x>;rel=up',
        ),
        (b'Link: "</a>', b'Link: "</a>'),
        (b"X-Location: http://orders:8000/a", b"X-Location: http://orders:8000/a"),
    ],
)
def test_lines(line: bytes, gets: bytes) -> None:
    """Each header has its grammar, and other headers are left."""
    around = b"\r\nA: 1\r\n%b\r\nB: 2"
    assert Public().apply(around % line, SHOP) == around % gets
    assert Public(redirects=False, cookie_path=True).apply(around % line, SHOP) == around % line


@pytest.mark.parametrize(
    ("site", "sent", "gets"),
    [
        (SHOP, b"a=1; Path=/; HttpOnly", b"a=1; Path=/shop; HttpOnly"),
        (SHOP, b"a=1;path=/items", b"a=1;path=/shop/items"),
        (SHOP, b"a=1; Path=/shop/items", b"a=1; Path=/shop/items"),
        (SHOP, b"a=1", b"a=1"),
        (SHOP, b"a=1; Path=x", b"a=1; Path=x"),
        (SHOP, b"__Host-a=1; Path=/; Secure", b"__Host-a=1; Path=/; Secure"),
        (BASED, b"a=1; Path=/", b"a=1; Path=/shop"),
        (BASED, b"a=1; Path=/base", b"a=1; Path=/shop"),
        (BASED, b"a=1; Path=/base/v1/x", b"a=1; Path=/shop/x"),
        (SAME, b"a=1; Path=/", b"a=1; Path=/"),
        (SHOP, b"path=/; a=/", b"path=/; a=/"),
    ],
)
def test_cookie_path(site: Site, sent: bytes, gets: bytes) -> None:
    """The path of a cookie becomes the public one; its name and value are never looked at."""
    public = Public(cookie_path=True)
    assert public.apply(b"\r\nSet-Cookie: " + sent, site) == b"\r\nSet-Cookie: " + gets


@pytest.mark.parametrize(
    ("domain", "sent", "gets"),
    [
        (None, b"a=1; Domain=orders", b"a=1; Domain=orders"),
        (b"", b"a=1; Domain=orders; Secure", b"a=1; Secure"),
        (b"", b"a=1; Domain=.Orders", b"a=1"),
        (b"", b"a=1; Domain=example.com", b"a=1; Domain=example.com"),
        (b"api.test", b"a=1; domain=orders; Path=/", b"a=1; domain=api.test; Path=/"),
        (b"api.test", b"a=1", b"a=1"),
        (b"api.test", b"__Host-a=1; Path=/", b"__Host-a=1; Path=/"),
    ],
)
def test_cookie_domain(domain: bytes | None, sent: bytes, gets: bytes) -> None:
    """The domain is taken away, or written anew; a cookie without one gets none."""
    public = Public(redirects=False, cookie_domain=domain)
    assert public.apply(b"\r\nSet-Cookie: " + sent, SHOP) == b"\r\nSet-Cookie: " + gets
