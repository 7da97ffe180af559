"""Fit the repository's pages into the site: those of its root, the systems' READMEs, and links that lead out of docs/.

mkdocs calls these functions (`hooks` in mkdocs.yml). On the forge the same links lead to the same files.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# Pages that stand elsewhere in the repository, and where the site has them.
ADDED = {name: name for name in ("SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md")} | {
    file.relative_to(ROOT).as_posix(): f"systems/{file.parent.name}.md"
    for file in sorted(ROOT.glob("examples/*/README.md"))
}
CODES = sorted(path.stem for path in (ROOT / "docs/operations/runbook").glob("[A-Z]*.md"))
SOURCES = {page: source for source, page in ADDED.items()}
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=[)\s])")
_FENCE = re.compile(r"(?ms)^(`{3,}).*?^\1")


def on_config(config: Any) -> Any:
    """Add the systems and the pages of the runbook to the menu: their folders say which there are."""
    systems = [
        {page.removeprefix("systems/").removesuffix(".md"): page} for page in SOURCES if "/" in page
    ]
    for entry in config.nav:
        if systems and "How to" in entry:
            entry["How to"].insert(0, {"The example systems": systems})
        if "Operations" in entry:
            runbook = next(
                one["Runbook"]
                for one in entry["Operations"]
                if isinstance(one, dict) and "Runbook" in one
            )
            runbook += [{code: f"operations/runbook/{code}.md"} for code in CODES]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages that do not stand in docs/."""
    for source, page in ADDED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(
    markdown: str, *, page: Any, config: Any, files: Files  # noqa: ARG001 — mkdocs' contract
) -> str:
    """Make links between pages that have moved, and links to other files of the repository, lead there."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")
    fences = [found.span() for found in _FENCE.finditer(markdown)]

    def follow(found: re.Match[str]) -> str:
        if any(start <= found.start() < end for start, end in fences):
            return found[0]
        return followed(found[1], source, here, config.extra["repository"]) + (found[2] or "")

    return _LINK.sub(follow, markdown)


def followed(link: str, source: str, here: str, repository: str) -> str:
    """Return a link from `source`, in the repository, as the page `here` of the site has to write it."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    page = ADDED.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
    if page.endswith(".md"):
        return posixpath.relpath(page, posixpath.dirname(here) or ".")
    kind = "tree" if (ROOT / target).is_dir() else "blob"
    return f"{repository}/{kind}/main/{target}"
