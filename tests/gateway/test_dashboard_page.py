"""The dashboard in a real browser: it shows what there is as text, asks nobody else, and does what an operator confirms."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser
from tests.support.client import ask
from tests.support.gateway import Gateway
from tests.support.tokens import SECRET, authorized
from tests.support.upstream import Upstream
from tests.support.waiting import wait

SCRIPT = "<script>document.title='hacked'</script><img src=x onerror=alert(1)>"
SIZES = (390, 1024, 1920)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A service with a route whose name is markup."""
    with Upstream() as upstream:
        service = {"shop": {"url": f"http://127.0.0.1:{upstream.port}"}}
        route = {"name": SCRIPT, "path": "/shop", "service": "shop", "auth": "none"}
        auth = {"jwt": {"secret": SECRET}, "tokens": {"enabled": False}}
        running = Gateway("fast", {"auth": auth, "services": service, "routes": [route]}, tmp_path)
        try:
            running.wait_ready()
            yield running
        finally:
            running.stop()


def test_an_operator_uses_the_page(gateway: Gateway, tmp_path: Path) -> None:
    """Log in, see one sentence and a route's hostile name as text, open a breaker after a question; nothing is kept."""
    token = authorized("ann", scope="admin")[0][1].removeprefix("Bearer ")
    ask(gateway.port, target="/shop/x")
    with Browser(tmp_path) as browser:
        browser.open(f"http://127.0.0.1:{gateway.port}/dashboard")
        browser.wait("document.querySelector('#token')")
        browser.value(f"document.querySelector('#token').value = {json.dumps(token)}")
        browser.value("document.querySelector('button.main').click()")
        browser.wait("document.body.innerText.includes('The one service answers')")
        names = "[...document.querySelectorAll('tbody th')].map((cell) => cell.textContent)"
        browser.wait(f"{names}.includes({json.dumps(SCRIPT)})")
        assert browser.value("document.querySelectorAll('main script, main img').length") == 0
        assert "hacked" not in browser.value("document.title")
        assert (
            browser.value("document.cookie + localStorage.length + sessionStorage.length") == "00"
        )
        for width in SIZES:
            browser.resize(width)
            assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        button = "[...document.querySelectorAll('button')].find((one) => one.textContent === '{}')"
        browser.value(button.format("shop") + ".click()")
        browser.wait(button.format("Open the breaker"))
        browser.value(button.format("Open the breaker") + ".click()")
        assert ask(gateway.port, target="/shop/x").status == 200  # it only asks
        browser.value("document.querySelector('dialog.small .acts button').click()")
        wait(lambda: ask(gateway.port, target="/shop/x").status == 503)
        browser.wait(
            "document.querySelector('.verdict').textContent.includes('the breaker is open')"
        )
        assert browser.errors == []
        here = (f"http://127.0.0.1:{gateway.port}/", "data:", "about:")
        assert [url for url in browser.asked if not url.startswith(here)] == []
    assert gateway.lines("circuit.open")
