"""The runbook: a page for each error code, an entry for each message that the code can log, and none for others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from propylon import errors

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "operations" / "runbook"
SOURCES = ROOT / "src"
METHODS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
# The records of requests and of the audit log have pages of their own.
_DIRECTIVE = re.compile(r"%[-+ #0]*[0-9]*(?:\.[0-9]+)?[a-z]")


def logged() -> Iterator[tuple[str, str]]:
    """Each message in the code, with … for what it is given, and its logger."""
    for path in sorted(SOURCES.rglob("*.py")):
        logger = ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log" | "logger"), attr=method), args=args
                ) if (method in METHODS):
                    text = args[1 if method == "log" else 0]
                    assert isinstance(text, ast.Constant), f"{logger}:{node.lineno}"
                    yield _DIRECTIVE.sub("…", str(text.value)).replace("`", ""), logger


def entries(*titles: str) -> list[str]:
    """The first cells of the tables below these headings; of all but the last two without any."""
    page = (RUNBOOK / "log-messages.md").read_text(encoding="utf-8")
    parts = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    chosen = titles or tuple(parts)[:-2]
    return [found for title in chosen for found in re.findall(r"(?m)^\| `(.+?)` \|", parts[title])]


def has_words(message: str) -> bool:
    """Whether a message says something without what it is given."""
    return re.fullmatch(r"(redis: )?…(: …)?", message) is None


def test_each_message_of_the_log_has_an_entry() -> None:
    """Who meets a message at night finds what it means and what to do; what is not said any more has no entry."""
    messages = {message for message, _ in logged() if has_words(message)}
    assert (
        messages - set(entries()) == set()
    ), "write them into docs/operations/runbook/log-messages.md"
    assert set(entries()) - messages == set(), "no code says these any more"
    assert len(entries()) == len(set(entries()))


def test_messages_without_words_are_found_by_their_logger() -> None:
    """Their whole text comes from elsewhere."""
    wordless = {logger for message, logger in logged() if not has_words(message)}
    assert set(entries("Lines whose text comes from elsewhere")) == wordless


def test_each_error_code_has_a_page() -> None:
    """A page for each code that an answer can have, which says its statuses, and which the index names."""
    found: dict[str, set[int]] = {}
    kinds = [one for one in vars(errors).values() if isinstance(one, type)]
    for kind in kinds:
        if issubclass(kind, errors.GatewayError) and "code" in dir(kind) and kind.code:
            found.setdefault(kind.code, set()).add(kind.status)
    pages = {path.stem for path in RUNBOOK.glob("[A-Z]*.md")}
    sent = {code for code, statuses in found.items() if statuses != {499}}
    assert pages == sent
    index = (RUNBOOK / "index.md").read_text(encoding="utf-8")
    for code in sent:
        page = (RUNBOOK / f"{code}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {code}\n")
        assert f"({code}.md)" in index
        bold = " ".join(re.findall(r"\*\*([0-9, :]+)", page))
        assert {str(status) for status in found[code] if status != 499} <= set(
            re.findall(r"[0-9]{3}", bold)
        ), code
