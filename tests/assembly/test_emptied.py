"""A reload of a file in which nothing is left."""

from pathlib import Path

import pytest

from propylon.assembly.gateway import Gateway
from tests.upstream.peer import run

ROUTE = "routes: [{path: /a, service: a, auth: none}]\nservices: {a: {url: 'http://a.example'}}\n"


@pytest.mark.parametrize("left", ["", "# nothing\n", "services: {a: {url: 'http://a.example'}}\n"])
def test_a_file_that_was_cut_short_closes_nothing(
    tmp_path: Path, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every request would be 404: an editor, a full disk or a template that failed wrote it."""
    file = tmp_path / "propylon.yaml"
    file.write_text(ROUTE)
    gateway = Gateway.from_file(file, {})

    async def main() -> None:
        async with gateway.lifespan():
            before = gateway.config
            file.write_text(left)
            gateway.reload()
            assert gateway.config is before
            file.write_text(ROUTE.replace("/a", "/b"))
            gateway.reload()
            assert gateway.config.routes[0].path == "/b"

    run(main())
    assert "reload: nothing changes" in caplog.text


def test_a_gateway_that_began_with_nothing_may_go_on_so(tmp_path: Path) -> None:
    """Its services register, or its endpoints are its own."""
    file = tmp_path / "propylon.yaml"
    file.write_text("log: {level: info}\n")
    gateway = Gateway.from_file(file, {})

    async def main() -> None:
        async with gateway.lifespan():
            file.write_text("log: {level: warning}\n")
            gateway.reload()
            assert gateway.config.log.level == "warning"

    run(main())
