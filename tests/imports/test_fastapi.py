"""A gateway in FastAPI: routes that are found in the source are a start; what is not understood is closed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propylon.commands.imports.command import Imported, translate
from propylon.commands.imports.source import Source, Unreadable
from tests.imports.driving import FOLDER, gateway_of

SERVICES = 'SERVICES = {"users": "http://users:1"}\n'
PROXY = '@app.api_route("/{service}/{path:path}"%s)\ndef proxy(service, path%s):\n    return get(f"{SERVICES[service]}%s")\n'


def code(text: str) -> Imported:
    """Translate a file."""
    return translate("fastapi", [Source("gateway.py", text)])


def test_a_gateway_by_hand_is_driven(tmp_path: Path) -> None:
    """Services of the dictionary are routes without their names; no token, no service."""
    found = code((FOLDER / "fastapi/gateway.txt").read_text())
    assert "url: ${ORDERS_URL:-http://orders.internal:8002}" in found.text.replace('"', "")
    text = (
        found.text + "\nauth: {jwt: {secret: dGhlIHRlc3RzJyBvd24gc2VjcmV0IG9mIGFsbCBnYXRld2F5cw}}\n"
    )
    with gateway_of(text, tmp_path) as gateway:
        assert gateway.get("/users/7/x").status_code == 401
        assert gateway.get("/users/7/x", token=gateway.token("ann")).status_code == 200
        assert gateway.upstream("users").requests[-1].path == "/7/x"
        assert gateway.get("/billing/invoices/7", token=gateway.token("ann")).status_code == 200
        assert gateway.upstream("billing").requests[-1].path == "/billing/invoices/7"
        assert gateway.request("DELETE", "/billing/refunds/7").status_code == 503
        assert gateway.get("/status").status_code == 503


def test_what_protects_is_closed_and_listed() -> None:
    """Depends is Python: the route is closed, with auth: required below; the status is 1."""
    found = code((FOLDER / "fastapi/gateway.txt").read_text())
    closed = [one.text for one in found.report.findings if one.closed]
    assert any("need_admin" in text and "current_user" in text for text in closed), closed
    assert "#   auth: required" in found.text
    assert found.report.status == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SERVICES + PROXY % (", dependencies=[Depends(user)]", "", "/{path}"), "it asks user"),
        (SERVICES + PROXY % ("", ", user=Depends(user)", "/{path}"), "it asks user"),
        (SERVICES + PROXY % ("", ", user: CurrentUser", "/{path}"), "the type CurrentUser"),
        (SERVICES + PROXY % ("", "", "/v1/{path}"), "which path"),
        (SERVICES + '@limiter.limit("5/m")\n' + PROXY % ("", "", "/{path}"), "limiter.limit"),
        ("app = FastAPI(dependencies=[Depends(user)])\n" + SERVICES + PROXY % ("", "", "/{path}"), "it asks user"),
        ("app.add_middleware(Guard)\n" + SERVICES + PROXY % ("", "", "/{path}"), "may protect"),
        ("SERVICES = load()\n" + PROXY % ("", "", "/{path}"), "not plain"),
        ("SERVICES = {'users': load()}\n" + PROXY % ("", "", "/{path}"), "not plain"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_closed(text: str, why: str) -> None:
    """The route answers 503, and the status is 1."""
    found = code(text)
    assert (found.report.status, "status: 503" in found.text) == (1, True), found.text
    assert any(why in one.text and one.closed for one in found.report.findings), found.report


def test_nothing_is_run(tmp_path: Path) -> None:
    """The source is parsed: what it would do at import does not happen."""
    mark = tmp_path / "mark"
    code(f"open({str(mark)!r}, 'w')\n{SERVICES}{PROXY % ('', '', '/{path}')}")
    assert not mark.exists()


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="@app.get(\"'/{}:=[]d f)\n", max_size=60))
def test_no_text_breaks_the_reader(inside: str) -> None:
    """It is translated, or refused with a place."""
    try:
        code(SERVICES + PROXY % ("", "", "/{path}") + inside)
    except Unreadable as error:
        assert str(error).startswith("gateway.py:")
