"""Read the files that `include` names, and merge them into the configuration; each value keeps its own place.

Routes of all files make one list, in the order of the files. Services make one mapping. Any other section stands in one file
only. Whatever two files say is a problem with both places, never a silent choice. An included file includes nothing itself.

As in nginx, a pattern that matches nothing is no mistake, because a directory may be empty; a file that is named and not
there is one.
"""

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from propylon.config.models.include import check_pattern
from propylon.config.models.schema import EXTENSION
from propylon.config.reading.document import Document
from propylon.config.reading.file import read_file
from propylon.config.reading.problems import ConfigError, Finding, Part, Path, Places, Problem

__all__ = ["Included", "include", "included_files"]

_KEY = "include"
# A thousand teams. A pattern that matches more was meant for something else.
MOST_FILES = 1000
_NO_MATCH = "include: {} matches no file"
# Sections that no included file has, and why.
_OF_THE_WHOLE: Mapping[str, str] = {
    _KEY: "an included file includes nothing itself",
    "defaults": "it holds for the routes of all files",
}


@dataclass(frozen=True, slots=True)
class Included:
    """What was included: a part for each file, and what is to be said of it."""

    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()


def included_files(path: FilePath, patterns: Sequence[str]) -> list[FilePath]:
    """Return the files that patterns of the file at `path` match now, each once: pattern by pattern, by name.

    A name without a wildcard is returned whether it is there or not. Names that begin with a dot are what editors and
    platforms make, and only a pattern with that dot matches them.
    """
    found: dict[FilePath, None] = {}
    for pattern in patterns:
        if not glob.has_magic(pattern):
            found[path.parent / pattern] = None
            continue
        # pathlib's own `glob` takes no directory that is not a part of the names.
        names = sorted(glob.glob(pattern, root_dir=path.parent))  # noqa: PTH207
        files = [path.parent / name for name in names]
        found |= dict.fromkeys(file for file in files if _is_meant(file, path))
    return list(found)


def _is_meant(file: FilePath, path: FilePath) -> bool:
    """Whether a pattern means a file that it matches: not a directory, and not the file in which the pattern stands.

    A link to nothing counts: a file that should be there is not.
    """
    try:
        return not file.exists() or (file.is_file() and not file.samefile(path))
    except OSError:  # gone a moment ago, or not ours to look at: whoever reads it says which
        return True


def include(document: Document, path: FilePath, environ: Mapping[str, str]) -> Included:
    """Merge what `include` names into the document of the file at `path`.

    Raises ConfigError for files that cannot be read; other problems are noted in the document.
    """
    patterns = _patterns(document.value)
    if not patterns:
        return Included()
    files = included_files(path, patterns)
    if len(files) > MOST_FILES:
        document.fail((_KEY,), f"matches {len(files)} files, and {MOST_FILES} are the most")
        return Included()
    merging = _Merging(document, path)
    for file, read in zip(files, _read(files, environ), strict=True):
        merging.add(str(file), read)
    return Included(tuple(merging.parts), tuple(_unmatched(path, patterns)))


def _patterns(written: Any) -> list[str]:
    """Return the patterns that are written; what is no pattern the model refuses."""
    value = written.get(_KEY)
    listed = [value] if isinstance(value, str) and value.strip() else value
    if not isinstance(listed, list):
        return []
    return [text for text in listed if isinstance(text, str) and _is_pattern(text)]


def _is_pattern(text: str) -> bool:
    try:
        return bool(check_pattern(text))
    except ValueError:
        return False


def _unmatched(path: FilePath, patterns: Sequence[str]) -> Iterator[str]:
    for pattern in patterns:
        if not included_files(path, [pattern]):
            yield _NO_MATCH.format(path.parent / pattern)


def _read(files: Sequence[FilePath], environ: Mapping[str, str]) -> list[Document]:
    """Read all files. Raises ConfigError with the problems of all that cannot be read."""
    read: list[Document] = []
    problems: list[Problem] = []
    for file in files:
        try:
            read.append(read_file(file, environ))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return read


class _Merging:
    """Merges one file after the other into the first."""

    def __init__(self, whole: Document, path: FilePath) -> None:
        self.parts: list[Part] = []
        self._whole = whole
        self._file = str(path)
        self._tree: Any = whole.value

    def add(self, file: str, read: Document) -> None:
        """Merge a file, and take over what was found wrong in it."""
        tree: Any = read.value
        routes = tree.get("routes")
        known = self._tree.get("routes") or []
        count = len(routes) if isinstance(routes, list) and isinstance(known, list) else 0
        keys: dict[Path, Path] = {}
        clashes = [*self._merge(tree, keys)]
        if count:
            self._tree["routes"] = [*known, *routes]
        self.parts.append(Part(file, read.lines, len(known) if count else 0, count, keys))
        self._take(read, self.parts[-1])
        for path, message in clashes:
            self._whole.problems.append((self._aside(path, keys), message))

    def _merge(self, tree: dict[str, Any], keys: dict[Path, Path]) -> Iterator[Finding]:
        """Put in all but the routes; note in `keys` what was put in, and yield what could not be."""
        for key, value in tree.items():
            if value is None or key.startswith(EXTENSION):
                continue
            if key == "routes":
                if not isinstance(value, list):
                    yield (key,), "must be a list of routes"
            elif key in _OF_THE_WHOLE:
                yield (key,), f"stands in {self._file} only: {_OF_THE_WHOLE[key]}"
            elif key != "services":
                yield from self._put(self._tree, (key,), value, keys)
            elif isinstance(value, dict):
                yield from self._put_services(value, keys)
            else:
                yield (key,), "must be a mapping of names to services"

    def _put_services(self, services: dict[str, Any], keys: dict[Path, Path]) -> Iterator[Finding]:
        if self._tree.get("services") is None:
            self._tree["services"] = {}
        whole = self._tree["services"]
        if isinstance(whole, dict):
            for name, value in services.items():
                # A service without a value is a service, too: its instances register.
                yield from self._put(
                    whole, ("services", name), {} if value is None else value, keys
                )

    def _put(
        self, whole: dict[str, Any], path: Path, value: object, keys: dict[Path, Path]
    ) -> Iterator[Finding]:
        name = str(path[-1])
        if whole.get(name) is not None or (name in whole and path[0] == "services"):
            other = Places(self._file, self._whole.lines, parts=tuple(self.parts)).of(path)
            yield path, f'"{name}" stands in two files: here and at {other}'
        else:
            whole[name] = value
            keys[path] = path

    def _take(self, read: Document, part: Part) -> None:
        """Take over the problems of a file, under the paths that its values have in the whole."""
        whole = self._whole
        whole.problems += [(self._path(path, part), message) for path, message in read.problems]
        whole.doubts += [(self._path(path, part), message) for path, message in read.doubts]
        whole.failed |= {self._path(path, part) for path in read.failed}
        whole.variables |= {self._path(path, part): name for path, name in read.variables.items()}

    def _path(self, path: Path, part: Part) -> Path:
        """Return the path in the whole of a value of a file."""
        if path[:1] == ("routes",) and len(path) > 1 and part.count:
            return ("routes", int(path[1]) + part.first, *path[2:])
        return path if part.own(path) is not None else self._aside(path, part.keys)

    def _aside(self, path: Path, keys: dict[Path, Path]) -> Path:
        """Return a path for a value that is not in the whole: no other value has it, and it reads the same."""
        aside = (*("",) * len(self.parts), *path)
        keys[aside] = path
        return aside
