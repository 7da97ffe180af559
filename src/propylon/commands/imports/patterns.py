"""Turn the path patterns of other gateways into paths of ours: literal segments and `{name}`, exact or with all below.

A regular expression is read, never run. What it says beyond that is not approximated in silence: `Found.wide` names a
part that takes more here, and None means that there is no path that says it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Found", "from_regex", "literal_prefix", "replaced"]

_ESCAPED = re.compile(r"\\([^A-Za-z0-9])")
_META = re.compile(r"[\\^$.|?*+()\[\]{}]")
# What stands for one whole segment, and takes all that a segment can be.
_SEGMENT = re.compile(r"\[\^/\](?:\+|\*)\??")
# The same for a part of what a segment can be: digits, words, a class without a slash.
_NARROW = re.compile(
    r"(?:\\[dw]|\[(?!\^)[^\]/\\]*(?:\\[dw.-][^\]/\\]*)*\])(?:\+|\{\d+(?:,\d*)?\})\??"
)
_NAMED = re.compile(r"\(\?P?<(?P<name>[A-Za-z_]\w*)>(?P<inner>.*)\)")
_GROUP = re.compile(r"\((?!\?)(?P<inner>.*)\)|\(\?:(?P<quiet>.*)\)")
_MOST = 4096


@dataclass(frozen=True, slots=True)
class Found:
    """A path for a pattern.

    `groups` are the names of the segments by the number or name that the pattern's groups have; `rest` is the group that
    holds what is below. `wide` says what takes more than the pattern did; empty if nothing does. `glued` tells that the
    pattern also takes paths that go on inside the last segment: /a takes /ab, which a path here does not.
    """

    path: str
    exact: bool
    wide: str = ""
    glued: bool = False
    groups: dict[str, str] = field(default_factory=dict)
    rest: str = ""
    rest_has_slash: bool = False  # the group begins with the slash in front of what is below


def from_regex(text: str) -> Found | None:
    """Return the path for a regular expression that begins at the path's first character; None if there is none."""
    if len(text) > _MOST:
        return None
    body = text.removeprefix("^")
    exact = body.endswith("$") and not body.endswith(r"\$")
    body = body.removesuffix("$") if exact else body
    parts = _split(body)
    if parts is None:
        return None
    rest, parts, exact = _without_rest(parts, exact=exact)
    group, slash = rest if rest is not None else (None, False)
    reader = _Reader()
    segments = [reader.segment(part) for part in parts]
    if None in segments:
        return None
    path = "/" + "/".join(segment for segment in segments if segment is not None)
    return Found(
        path,
        exact,
        "; ".join(reader.wide),
        glued=not exact and rest is None and bool(parts) and parts[-1] != "",
        groups=reader.groups,
        rest=(
            group
            if group and not group.isdigit()
            else str(reader.count + int(group)) if group else ""
        ),
        rest_has_slash=slash,
    )


def _split(body: str) -> list[str] | None:
    """Split a pattern at the slashes that stand outside of groups and classes."""
    if not body.startswith("/"):
        return None
    parts, depth, inside, at = [""], 0, False, 1
    while at < len(body):
        char = body[at]
        if char == "\\" and at + 1 < len(body):
            piece = body[at : at + 2]
            if piece == r"\/" and not (depth or inside):
                parts.append("")
            else:
                parts[-1] += piece
            at += 2
            continue
        inside = char == "[" or (inside and char != "]")
        depth += 0 if inside else (char == "(") - (char == ")")
        if char == "/" and not (depth or inside):
            parts.append("")
        else:
            parts[-1] += char
        at += 1
    return parts if depth == 0 and not inside else None


# Ends that mean "and all below", behind a slash of their own and within the last segment. A group holds what is below.
_ALONE = re.compile(r"\.\*|(?P<plain>\(\.\*\))|\(\?P?<(?P<name>\w+)>\.\*\)")
_WITHIN = re.compile(
    r"(?P<second>\(/\|\$\)\(\.\*\))|(?P<first>\(/\??\.\*\)\??)|\(\?:/\.\*\)\?|\(\?P?<(?P<name>\w+)>/\??\.\*\)\??"
)


def _without_rest(
    parts: list[str], *, exact: bool
) -> tuple[tuple[str, bool] | None, list[str], bool]:
    """Take an end that means "and all below" off.

    The first value is None without such an end, else its group ("1": the next one, "2": the one after it, a name, or ""
    for none) and whether the group begins with the slash.
    """
    last, before = parts[-1], parts[:-1]
    if alone := _ALONE.fullmatch(last):
        return (alone["name"] or ("1" if alone["plain"] else ""), False), before or [""], False
    for match in _WITHIN.finditer(last):
        if match.end() == len(last):
            group = match["name"] or ("2" if match["second"] else "1" if match["first"] else "")
            slash = match["second"] is None
            return (group, slash and bool(group)), [*before, last[: match.start()]], False
    if last == "" and len(parts) > 1 and not exact:
        return ("", False), before, False
    return None, parts, exact


class _Reader:
    """Reads segments one after the other, and counts groups."""

    def __init__(self) -> None:
        self.count = 0
        self.groups: dict[str, str] = {}
        self.wide: list[str] = []

    def segment(self, part: str) -> str | None:
        """Return a segment of our path for a part of the pattern; None if no segment says it."""
        name, inner, captures = self._unwrapped(part)
        if inner and (_SEGMENT.fullmatch(inner) or _NARROW.fullmatch(inner)):
            if captures:
                self.count += 1
                self.groups[str(self.count)] = name
                self.groups[name] = name
            if not _SEGMENT.fullmatch(inner):
                self.wide.append(f"{{{name}}} takes any segment, the original only {inner}")
            return f"{{{name}}}"
        literal = _ESCAPED.sub("", part)
        if _META.search(literal) or re.search(r"\\[A-Za-z0-9]", part):
            return None
        return _ESCAPED.sub(r"\1", part)

    def _unwrapped(self, part: str) -> tuple[str, str, bool]:
        """Return a name for a variable, its expression without the group around it, and whether it is a group."""
        fresh = f"p{len(self.groups) + len(self.wide) + 1}"
        if named := _NAMED.fullmatch(part):
            return named["name"], named["inner"], True
        if group := _GROUP.fullmatch(part):
            quiet = group["quiet"] is not None
            return fresh, group["quiet"] if quiet else group["inner"], not quiet
        return fresh, part, False


def literal_prefix(text: str) -> str:
    """Return the whole segments with which all paths of a regular expression begin; "/" if there are none."""
    parts = _split(text.removeprefix("^")) or []
    kept: list[str] = []
    for part in parts:
        if not part or _META.search(_ESCAPED.sub("", part)) or re.search(r"\\[A-Za-z0-9]", part):
            break
        kept.append(_ESCAPED.sub(r"\1", part))
    return "/" + "/".join(kept)


def replaced(found: Found, template: str) -> str | None:
    """Return what `rewrite` is for a replacement such as `/new/$1`; None if no rewrite says it.

    `rewrite` replaces the part that matched, and what is below goes behind it. So the rest must stand at the end.
    """
    path = template
    if found.rest:
        before = "" if found.rest_has_slash else "/"
        for form in (
            f"{before}${found.rest}",
            f"{before}${{{found.rest}}}",
            f"{before}\\{found.rest}",
        ):
            if path.endswith(form):
                path = path.removesuffix(form) or "/"
                break
        else:
            return None
    for name, segment in found.groups.items():
        for form in (
            (f"${{{name}}}", f"\\{name}")
            if not name.isdigit()
            else (f"${{{name}}}", f"\\{name}", f"${name}")
        ):
            path = "/".join(f"{{{segment}}}" if part == form else part for part in path.split("/"))
    return None if "$" in path or "\\" in path or not path.startswith("/") else path
