"""The documentation site, as far as it can be checked without building it: the menu and the links. `make site` builds it, strictly."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
# Pages that are read on the forge, too.
READ = [*PAGES, *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("examples/*/README.md"))]
_FENCE = re.compile(r"(?ms)^(`{3,}).*?^\1`*$|`[^`\n]+`")
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")


@pytest.fixture(scope="module")
def hooks() -> Iterator[ModuleType]:
    """The hooks of the site, without mkdocs: they only use its File."""
    stand_in = {"mkdocs": ModuleType("mkdocs"), "mkdocs.structure": ModuleType("structure")}
    files: Any = ModuleType("mkdocs.structure.files")
    files.File = files.Files = object
    stand_in["mkdocs.structure.files"] = files
    present = {name: sys.modules.get(name) for name in stand_in}
    sys.modules.update(stand_in)
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name, was in present.items():
        if was is None:
            del sys.modules[name]
        else:
            sys.modules[name] = was


def menu(entry: Any) -> Iterator[str]:
    """Every page below an entry of the menu."""
    if isinstance(entry, str):
        yield entry
        return
    for child in entry.values() if isinstance(entry, dict) else entry:
        yield from menu(child)


def test_the_menu_names_each_page_once(hooks: ModuleType) -> None:
    """No page is left out, none is named that is not there; the systems and the runbook are found by their folders."""
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    config = hooks.on_config(SimpleNamespace(nav=site["nav"]))
    named = list(menu(config.nav))
    there = {page.relative_to(DOCS).as_posix() for page in PAGES} | set(hooks.ADDED.values())
    assert sorted(named) == sorted(set(named))
    assert set(named) - there == set()
    assert there - set(named) == set()


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as forges and mkdocs make them."""
    text = re.sub(r"(?ms)^(`{3,}).*?^\1`*$", "", page.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"(?m)^#+ (.*)$", text):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading).lower()
        found.add(re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain).strip()))
    return found


@pytest.mark.parametrize("page", READ, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the repository, and to a heading that it has."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    dead = []
    for link in _LINK.findall(text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            dead.append(link)
    assert dead == []


def test_links_out_of_the_documentation_lead_to_the_repository(hooks: ModuleType) -> None:
    """The site has the root's pages as pages of its own; what is no page is shown by the forge."""
    forge = "https://forge.example/propylon"

    def followed(link: str, source: str, here: str) -> str:
        found: str = hooks.followed(link, source, here, forge)
        return found

    assert (
        followed("../../SECURITY.md", "docs/topics/paths.md", "topics/paths.md") == "../SECURITY.md"
    )
    assert followed("docs/howto/tls.md", "CHANGELOG.md", "CHANGELOG.md") == "howto/tls.md"
    assert (
        followed("../../README.md", "docs/intro/index.md", "intro/index.md")
        == f"{forge}/blob/main/README.md"
    )
    assert followed("deploy", "SECURITY.md", "SECURITY.md") == f"{forge}/tree/main/deploy"
    text = "see [a](../../README.md#x) and\n```text\n[b](../../README.md)\n```\n"
    page = SimpleNamespace(file=SimpleNamespace(src_uri="intro/index.md"))
    config = SimpleNamespace(extra={"repository": forge})
    done = hooks.on_page_markdown(text, page=page, config=config, files=None)
    assert (
        done == f"see [a]({forge}/blob/main/README.md#x) and\n```text\n[b](../../README.md)\n```\n"
    )
