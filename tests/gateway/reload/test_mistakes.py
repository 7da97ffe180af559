"""A mistake in the file changes nothing, and is told with its place."""

import pytest

from tests.gateway.reload.live import Live, soon, without

MISTAKES = {
    "no YAML": (b"routes:\n  - {path: /a\n", ":3: not valid YAML"),
    "nothing": (b"", ":1 routes: none is left"),
    "a tab": (b"routes:\n\t- path: /a\n", ":2: not valid YAML"),
    "no mapping": (b"- routes\n", ":1: must be a mapping"),
    "an unknown key": (b"server: {}\n\nserivces: {}\n", ':3 serivces: unknown key; did you mean "services"?'),
    "a bad value": (b"server:\n  drain: soon\n", ":2 server.drain: "),
    "a dangling name": (
        b"services: {orders: {}}\nroutes:\n  - path: /a\n    service: oders\n",
        ':4 routes[0].service: no service "oders"; did you mean "orders"?',
    ),
    "an unset variable": (b"prefix: /a\nlog: {level: '${NOBODY_SETS_THIS}'}\n", ":2 log.level: "),
    "no text": (b"routes: []\n# \xff\n", ": cannot be read: line 2 is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_changes_nothing(live: Live, name: str) -> None:
    """The log says where it stands and what is wrong; the old file is in force until a good one comes."""
    content, complaint = MISTAKES[name]
    since = live.now
    live.gateway.file.write_bytes(content)
    live.hangup()
    assert live.hears(since, "nothing changes")
    events = [line["event"] for line in live.gateway.lines("nothing changes")]
    assert events[-1].startswith(f"reload: nothing changes: {live.gateway.file}{complaint}")
    assert live.is_in_force()
    assert [live.status(path) for path in ("/stays", "/leaves")] == [200, 200]
    live.put(without(live.config(), "leaves"))
    assert live.status("/leaves") == 404


def test_every_mistake_is_told(live: Live) -> None:
    """All of them at once, and nothing of what is right beside them takes effect."""
    config = without(live.config(), "leaves")
    config["routes"] += [{"path": "/a", "service": "nobody"}, {"path": "b", "service": "stays"}]
    since = live.now
    live.write(config)
    live.hangup()
    assert soon(lambda: len(live.news(since, "nothing changes")) >= 2)
    assert live.news(since, 'no service \\"nobody\\"')
    assert live.news(since, "routes[6].path: ")
    assert [live.is_in_force(), live.status("/leaves")] == [False, 200]


def test_a_file_that_is_gone_changes_nothing(live: Live) -> None:
    """And neither does one that may not be read, or is a directory."""
    file, aside = live.gateway.file, live.gateway.file.with_name("aside")
    file.rename(aside)
    for reason in ("no such file or directory", "it is a directory"):
        since = live.now
        live.hangup()
        assert live.hears(since, f"{file}: cannot be read: {reason}")
        assert live.status("/leaves") == 200
        if not file.exists():
            file.mkdir()
    file.rmdir()
    aside.rename(file)
    live.put(without(live.config(), "leaves"))
    assert live.status("/leaves") == 404
