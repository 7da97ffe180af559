"""ReadPrivacy for privacy: understood and passed on, refused when nobody can tell what is wished, kept in the log."""

import time

import pytest

from tests.support.client import Answer, ask
from tests.support.gateway import Gateway
from tests.support.tokens import authorized
from tests.support.upstream import Upstream

LEVEL = "X-Privacy-Level"


def check_bad(answer: Answer, header: str) -> None:
    """Assert that it is a 400 that names the header."""
    assert answer.status == 400
    error = answer.json()["error"]
    assert error["code"] == "INVALID_REQUEST"
    assert str(error["details"]["header"]).lower() == header.lower()
    assert answer.get("x-error-source") == "gateway"


@pytest.mark.parametrize("sent", ["strict", "STRICT", "Strict", "  strict", "strict \t", "sTRICt "])
def test_level_is_forwarded_normalised(guarded: Gateway, behind: Upstream, sent: str) -> None:
    """A level in any case reaches the upstream in lower case, once, however its name is spelled."""
    for name in (LEVEL, "x-privacy-level", "X-PRIVACY-LEVEL"):
        assert ask(guarded.port, target="/privacy", headers=[(name, sent)]).status == 200
        assert behind.last.get(LEVEL) == "strict"


@pytest.mark.parametrize("level", ["strict", "standard", "permissive"])
@pytest.mark.parametrize("path", ["/privacy", "/privacy/required", "/privacy/ignored"])
def test_each_level_is_known(guarded: Gateway, behind: Upstream, path: str, level: str) -> None:
    """All three levels are understood, on routes that may, must or do not look."""
    assert ask(guarded.port, target=path, headers=[(LEVEL, level)]).status == 200
    assert behind.last.get(LEVEL) == level


@pytest.mark.parametrize("name", ["DNT", "Sec-GPC"])
@pytest.mark.parametrize("value", ["0", "1", " 1 "])
def test_signal_is_forwarded(guarded: Gateway, behind: Upstream, name: str, value: str) -> None:
    """DNT and Sec-GPC of 0 or 1 pass, once."""
    assert ask(guarded.port, target="/privacy", headers=[(name, value)]).status == 200
    assert behind.last.get(name) == value.strip()


@pytest.mark.parametrize(
    "value",
    ["", "none", "stric", "strict!", "strict,standard", "strict standard", "strict;q=1", "1", "true",
     '"strict"', "str\xefct", "strict\u00a0".encode().decode("latin-1"), "x" * 500],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/privacy", "/privacy/required"])
def test_unknown_level_is_400(guarded: Gateway, behind: Upstream, path: str, value: str) -> None:
    """A level that is none is refused: it may have meant less than is assumed."""
    check_bad(ask(guarded.port, target=path, headers=[(LEVEL, value)]), LEVEL)
    assert behind.raw == b""


@pytest.mark.parametrize("name", ["DNT", "Sec-GPC"])
@pytest.mark.parametrize("value", ["", "2", "yes", "true", "01", "1,1", "0 1", "-1", "null"])
def test_unknown_signal_is_400(guarded: Gateway, behind: Upstream, name: str, value: str) -> None:
    """A signal other than 0 or 1 is refused."""
    check_bad(ask(guarded.port, target="/privacy", headers=[(name, value)]), name)
    assert behind.raw == b""


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (LEVEL, ("strict", "permissive")),
        (LEVEL, ("strict", "strict")),
        (LEVEL, ("permissive", "strict", "standard")),
        (LEVEL, ("", "strict")),
        ("DNT", ("0", "1")),
        ("DNT", ("1", "1")),
        ("Sec-GPC", ("1", "0")),
    ],
)
def test_repeated_wish_is_400(
    guarded: Gateway, behind: Upstream, name: str, values: tuple[str, ...]
) -> None:
    """A wish that is made twice is none that can be followed, even if both are the same."""
    headers = [(name, value) for value in values]
    check_bad(ask(guarded.port, target="/privacy", headers=headers), name)
    other = [(name.upper() if index else name.lower(), value) for index, value in enumerate(values)]
    check_bad(ask(guarded.port, target="/privacy", headers=other), name)
    assert behind.raw == b""


def test_required_and_absent_is_400(guarded: Gateway, behind: Upstream) -> None:
    """Where a level is required its absence is an error that says which header is wanted."""
    check_bad(ask(guarded.port, target="/privacy/required"), LEVEL)
    check_bad(ask(guarded.port, target="/privacy/required", headers=[("DNT", "1")]), LEVEL)
    assert behind.raw == b""


def test_optional_and_absent_stays_absent(guarded: Gateway, behind: Upstream) -> None:
    """Without a wish and without a default the upstream is told nothing."""
    assert ask(guarded.port, target="/privacy").status == 200
    assert {"x-privacy-level", "dnt", "sec-gpc"} & behind.last.names == set()


@pytest.mark.parametrize("value", ["nonsense", "STRICT", ""])
def test_ignored_is_not_looked_at(guarded: Gateway, behind: Upstream, value: str) -> None:
    """Where privacy is ignored, whatever is sent passes as it is."""
    assert ask(guarded.port, target="/privacy/ignored", headers=[(LEVEL, value)]).status == 200
    assert behind.last.get(LEVEL) == value


def test_default_level(guarded: Gateway, behind: Upstream) -> None:
    """default_privacy is what the upstream is told where the client says nothing; its word wins."""
    ask(guarded.port, target="/privacy/strict", headers=authorized())
    assert behind.last.get(LEVEL) == "strict"
    ask(guarded.port, target="/privacy/strict", headers=[*authorized(), (LEVEL, "permissive")])
    assert behind.last.get(LEVEL) == "permissive"


def test_upstream_knows_who_it_is_all_the_same(guarded: Gateway, behind: Upstream) -> None:
    """Strict is about logs: the service that does the work is told for whom."""
    headers = [*authorized("42"), (LEVEL, "strict")]
    assert ask(guarded.port, target="/privacy/known", headers=headers).status == 200
    assert behind.last.get("x-user-id") == "42"


@pytest.mark.parametrize(
    ("target", "level", "told"),
    [
        ("/privacy/known", None, True),
        ("/privacy/known", "standard", True),
        ("/privacy/known", "permissive", True),
        ("/privacy/known", "strict", False),
        ("/privacy/known", " STRICT ", False),
        ("/privacy/strict", None, False),
    ],
)
def test_strict_keeps_the_user_out_of_the_log(
    guarded: Gateway, behind: Upstream, target: str, level: str | None, told: bool
) -> None:
    """With level strict, sent or by default, no line of the log names the user."""
    subject = f"person-{time.monotonic_ns()}"
    headers = authorized(subject) + ([] if level is None else [(LEVEL, level)])
    answer = ask(guarded.port, target=target, headers=headers)
    assert answer.status == 200
    guarded.record(answer)
    assert (subject in guarded.said()) == told


def test_strict_keeps_query_and_body_out_of_the_log(guarded: Gateway, behind: Upstream) -> None:
    """Nor is there anything of the query or the body, whether the request goes well or not."""
    mark = f"private-{time.monotonic_ns()}"
    headers = [*authorized(mark + "-user"), (LEVEL, "strict")]
    paths = ["/privacy/known", "/read", "/closed", "/empty", "/nowhere", "/few", "/small"]
    for path in paths:
        body = mark.encode() * 100
        last = ask(
            guarded.port, "DELETE" if path == "/few" else "POST", f"{path}?q={mark}", headers, body
        )
    guarded.record(last)
    assert mark not in guarded.said()
