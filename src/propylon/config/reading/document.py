"""Parse YAML into plain values, and note the line of each value. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import yaml

from propylon.config.reading.as_json import all_on_one, read_json
from propylon.config.reading.credentials import SECRETS
from propylon.config.reading.expand import expand, read_scalar, references, unbraced
from propylon.config.reading.lines import Lines
from propylon.config.reading.plain import PLACEHOLDER, Plain, take_plain
from propylon.config.reading.problems import Path
from propylon.config.reading.secretfile import Variables

# Far more than a gateway needs, and few enough that neither parser nor operator gets lost.
DEEPEST = 32
# Ten thousand nodes reached through aliases: nine lines of YAML can ask for a billion ("laughs").
MOST_ALIASED = 10_000
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_READ = {_TAG + name for name in ("null", "bool", "int", "float")}
_TEXT = {_TAG + name for name in ("str", "timestamp", "value")}


class Unreadable(ValueError):
    """The text cannot be parsed any further: invalid YAML, too deep, too many aliases."""

    def __init__(self, line: int, message: str) -> None:
        """Keep the line, counted from 1, and the message."""
        self.line, self.message = line, message
        super().__init__(message)


@dataclass(slots=True)
class Document:
    """The values of a text, the line of each, and the problems that were found."""

    value: object = field(default=None, repr=False)  # there are secrets in it
    lines: Lines = field(default_factory=Lines)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    failed: set[Path] = field(default_factory=set)
    doubts: list[tuple[Path, str]] = field(default_factory=list)
    variables: dict[Path, str] = field(default_factory=dict)  # the names that a value came from

    def fail(self, path: Path, message: str) -> None:
        """Note a problem with the value at a path, so that later checks do not report the value again."""
        self.problems.append((path, message))
        self.failed.add(path)


def read(text: str, environ: Mapping[str, str]) -> Document:
    """Parse one YAML document and replace `${VAR}` in its values. Raises Unreadable."""
    value = read_json(text, environ, DEEPEST)
    if value is not None:
        count = count_lines if "\n" in text.rstrip("\n") else all_on_one
        return Document(value, Lines(hidden=None, count=partial(count, text)))
    return _read_around(text, environ) or _Reader(Plain(text), environ).document()


def count_lines(text: str) -> Lines:
    """Return the line of each value of a document that has been read already."""
    return _Reader(Plain(text), {}).document().lines


def _read_around(text: str, environ: Mapping[str, str]) -> Document | None:
    """Parse a document without its plain routes, and put them in; None if there is any problem with it.

    The caller then parses the whole text: messages and lines must not depend on how routes are written.
    """
    plain = take_plain(text)
    if not plain.runs:
        return None
    reader = _Reader(plain, environ)
    try:
        document = reader.document()
    except Unreadable:
        return None
    if plain.runs or document.problems:
        return None
    document.lines = Lines(reader.lines, tuple(reader.hidden), partial(count_lines, text))
    return document


def _composed(text: str) -> yaml.Node | None:
    try:
        _check_depth(text)
        node: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        msg = f"the character U+{error.character:04X} cannot stand in YAML"
        raise Unreadable(line, msg) from error
    return node


def _check_depth(text: str) -> None:
    # Before composing: libyaml's composer recurses in C, and deep nesting ends the process.
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                msg = f"nested more than {DEEPEST} levels deep"
                raise Unreadable(_line(event.start_mark), msg)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _line(mark: Any) -> int:
    return 1 if mark is None else int(mark.line) + 1


# A value such as ${VAR} or /a/{name} that stands without quotes in a mapping or list of one line: YAML takes its brace for
# the beginning of a mapping.
_BRACED = re.compile(r"""(?<!["'])[^\s,\[\]{}"']*\$?\{[A-Za-z_]\w*(?::-[^{}]*)?\}[^\s,\[\]{}"']*""")


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    line = _line(mark)
    written = text.split("\n")[line - 1 : line]
    if "flow" in str(error.context) and (braced := _BRACED.search("".join(written))):
        msg = f'not valid YAML: a value with braces inside {{ }} needs quotes: "{braced[0]}"'
        return Unreadable(line, msg)
    problem = str(error.problem).removeprefix("but ")
    if "cannot start any token" in problem:
        problem += " (a tab? YAML is indented with spaces)"
    context = f" {error.context}," if error.context else ""
    return Unreadable(line, f"not valid YAML:{context} {problem}")


class _Reader:
    """Turns nodes into values, and counts the nodes that are reached through aliases."""

    def __init__(self, plain: Plain, environ: Mapping[str, str]) -> None:
        """Read what is left of a text, and put in what was taken out of it."""
        self._plain = plain
        self._environ = environ
        self._secrets = Variables(environ)
        self.lines: dict[Path, int] = {(): 1}
        self._document = Document(lines=Lines(self.lines))
        self._seen: set[int] = set()
        self._open: set[int] = set()
        self._aliased = 0
        self.hidden: list[range] = []  # routes of which only the first line is known

    def document(self) -> Document:
        """Read all of it. Raises Unreadable."""
        node = _composed(self._plain.text)
        self._document.value = None if node is None else self._value(node, ())
        return self._document

    def _value(self, node: yaml.Node, path: Path) -> object:
        """Return the value of a node, with those inside it."""
        self.lines.setdefault(path, _line(node.start_mark))
        self._count(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.add(id(node))
        read: object
        if isinstance(node, yaml.SequenceNode):
            read = self._sequence(node, path)
        else:
            read = self._mapping(node, path)
        self._open.discard(id(node))
        return read

    def _sequence(self, node: yaml.SequenceNode, path: Path) -> list[object]:
        read: list[object] = []
        for item in node.value:
            if path == ("routes",) and self._is_placeholder(item):
                self._put_back(self._plain.runs.pop(item.start_mark.line), path, read)
            else:
                read.append(self._value(item, (*path, len(read))))
        return read

    def _is_placeholder(self, node: yaml.Node) -> bool:
        mark = node.start_mark
        return (
            node.value == PLACEHOLDER
            and mark.line in self._plain.runs
            and mark.column == self._plain.column
        )

    def _put_back(self, run: list[tuple[int, object]], path: Path, read: list[object]) -> None:
        begin = len(read)
        for line, value in run:
            self.lines[(*path, len(read))] = line + 1
            read.append(value)
        self.hidden.append(range(begin, len(read)))

    def _count(self, node: yaml.Node) -> None:
        line = _line(node.start_mark)
        if id(node) in self._open:
            msg = "an alias that contains itself"
            raise Unreadable(line, msg)
        # Whatever is reached a second time is reached through an alias.
        self._aliased += id(node) in self._seen
        self._seen.add(id(node))
        if self._aliased > MOST_ALIASED:
            msg = f"aliases that stand for more than {MOST_ALIASED:,} values"
            raise Unreadable(line, msg)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        if node.tag not in _READ | _TEXT:
            self._document.fail(path, _untagged(node.tag))
            return None
        plain = not node.style and node.tag in _READ | {_TAG + "str"}
        text: str = node.value
        if "$" not in text:
            return read_scalar(text) if plain and node.tag in _READ else text
        variables = self._variables(path)
        # A secret may hold any text, and no part of it belongs into a message.
        if variables is not self._secrets and (name := unbraced(text)):
            msg = f"holds ${name} as it stands; write ${{{name}}} for the variable, or $${name} for this text"
            self._document.doubts.append((path, msg))
        if names := [name for name in references(text) if self._environ.get(name)]:
            self._document.variables[path] = ", ".join(names)
        try:
            return expand(text, variables, plain=plain)
        except ValueError as error:
            self._document.fail(path, str(error))
            return None

    def _variables(self, path: Path) -> Mapping[str, str]:
        secret = any(path[: len(key)] == key for key in SECRETS)
        return self._secrets if secret else self._environ

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, object]:
        read: dict[str, object] = {}
        first: dict[str, int] = {}
        merged: dict[str, object] = {}
        for key, value in node.value:
            line = _line(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self._document.fail((*path, "?"), "a key must be plain text")
            elif key.tag == _TAG + "merge":
                merged |= self._merge(value, path)
            elif key.value in first:
                # The second writing has a place of its own, which reads as the key's.
                again = (*path, key.value, "")
                self.lines[again] = line
                self._document.problems.append((again, _twice(key.value, first[key.value], line)))
            else:
                first[key.value] = self.lines[(*path, key.value)] = line
                read[key.value] = self._value(value, (*path, key.value))
        return merged | read

    def _merge(self, node: yaml.Node, path: Path) -> dict[str, object]:
        merged: dict[str, object] = {}
        for source in _sources(node):
            self._count(source)
            if not isinstance(source, yaml.MappingNode):
                self._document.fail(path, "<< takes a mapping, or a list of mappings")
                continue
            merged = self._mapping(source, path) | merged
        return merged


def _sources(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    else:
        yield node


def _twice(key: str, first: int, line: int) -> str:
    return f'"{key}" is written twice: on line {first}, and again on line {line}'


def _untagged(tag: str) -> str:
    if tag.startswith(_TAG):
        return f"the tag !!{tag.removeprefix(_TAG)} is not supported"
    # It may be the beginning of a secret, which nobody should read in a log.
    return "a value that begins with ! must stand in quotes"
