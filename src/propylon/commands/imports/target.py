"""Follow what the original does to a path, step by step, and write it as one rewrite."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from propylon.commands.imports.parts import Route
from propylon.commands.imports.patterns import from_regex, replaced
from propylon.commands.imports.report import At

__all__ = ["Target"]


@dataclass(slots=True)
class Target:
    """The path that a service gets, as the filters have made it so far."""

    route: Route
    segments: list[str] = field(default_factory=list)
    changed: At | None = None
    lost: bool = False

    @classmethod
    def of(cls, route: Route) -> Target:
        """Begin with the route's own path."""
        return cls(route, _split(str(route.keys["path"])))

    def strip(self, count: int, at: At) -> None:
        """Take segments off, from the left."""
        self.changed = at
        if count > len(self.segments) and not self.route.keys.get("exact"):
            self._lose(
                at, f"{count} segments are taken off, and the route's path has {len(self.segments)}"
            )
            return
        self.segments = self.segments[count:]

    def prefix(self, text: str, at: At) -> None:
        """Put a path in front."""
        self.changed = at
        self.segments = [*_split(text), *self.segments]

    def set(self, text: str, at: At) -> None:
        """Replace the whole path."""
        self.changed = at
        if not self.route.keys.get("exact"):
            self._lose(at, f"every path below becomes {text}")
        self.segments = _split(text)

    def regex(self, pattern: str, replacement: str, at: At) -> None:
        """Replace by a regular expression, as Spring and Traefik do."""
        self.changed = at
        found = from_regex(pattern)
        rewrite = replaced(found, replacement.replace("$\\", "$")) if found else None
        now = "/" + "/".join(self.segments)
        if found is None or rewrite is None:
            self._literal(pattern, replacement, at)
            return
        base = found.path.rstrip("/")
        fits = now == found.path or now.startswith(f"{base}/")
        if not fits or (found.groups and now != found.path):
            self._lose(at, f"the expression {pattern} takes other paths than the route")
            return
        self.segments = [*_split(rewrite), *_split(now.removeprefix(base))]

    def _literal(self, pattern: str, replacement: str, at: At) -> None:
        if re.fullmatch(r"[\w/~-]+", pattern) and re.fullmatch(r"[\w/~-]*", replacement):
            now = "/" + "/".join(self.segments)
            if now == pattern or now.startswith(f"{pattern}/"):
                self.segments = _split(now.replace(pattern, replacement, 1))
                return
        self._lose(at, f"no rewrite says {pattern} and {replacement}")

    def _lose(self, at: At, why: str) -> None:
        if not self.lost:
            self.route.close(at, why, "write rewrite")
        self.lost = True

    def write(self) -> None:
        """Write what has come of it."""
        if self.changed is None or self.lost:
            return
        path, wanted = str(self.route.keys["path"]), "/" + "/".join(self.segments)
        if wanted == path:
            self.route.same(self.changed, "the path stays as it is")
        elif wanted == "/" and not self.route.keys.get("exact"):
            self.route.set("strip_prefix", True, self.changed, protects=True)
        else:
            self.route.set("rewrite", wanted, self.changed, protects=True)


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
