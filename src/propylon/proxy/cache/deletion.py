"""Say which stored answers are to go: the same words for a worker's memory, for what workers share, and for messages. Pure.

Paths, tags and resources are digests: a message to other machines must not show what a client wrote into its query.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from propylon.proxy.cache.key import Key, Target, normal_path, target_of

__all__ = [
    "EVERYTHING",
    "Deletion",
    "digest_of",
    "marks_of",
    "path_mark",
    "tag_marks",
    "target_mark",
]

_DIGEST = 16
EVERYTHING = b"*"
"""The mark of a deletion of all answers."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """Answers that fit all that is said: a route's name, and digests of a path, of a tag, of one resource (RFC 9111, 4.4).

    Nothing said: all answers.
    """

    route: str | None = None
    path: bytes | None = None
    tag: bytes | None = None
    target: bytes | None = None

    @classmethod
    def chosen(
        cls, *, route: str | None = None, path: bytes | None = None, tag: bytes | None = None
    ) -> Deletion:
        """Return the deletion of what an operator chooses."""
        return cls(
            route,
            None if path is None else path_mark(path),
            None if tag is None else digest_of(b"tag", tag),
        )

    @classmethod
    def of_target(cls, target: Target) -> Deletion:
        """Return the deletion of one resource."""
        return cls(path=path_mark(target[1]), target=target_mark(target))

    @classmethod
    def from_message(cls, said: dict[str, str | None]) -> Deletion:
        """Read a message. Raises ValueError or KeyError for what is none."""
        path, tag, target = (
            None if (text := said[name]) is None else bytes.fromhex(text)
            for name in ("path", "tag", "target")
        )
        return cls(said["route"], path, tag, target)

    @property
    def message(self) -> dict[str, str | None]:
        """The deletion as a message."""
        return {
            "route": self.route,
            "path": None if self.path is None else self.path.hex(),
            "tag": None if self.tag is None else self.tag.hex(),
            "target": None if self.target is None else self.target.hex(),
        }

    @property
    def mark(self) -> bytes:
        """What stands for it in a store that only notes when something was deleted."""
        if self.target is not None:
            return self.target
        return _mark(self.route, self.path, self.tag)


def digest_of(kind: bytes, *parts: bytes) -> bytes:
    """Return a digest of some bytes; those of two kinds are never the same."""
    digest = blake2b(kind, digest_size=_DIGEST)
    for part in parts:
        digest.update(b"%d:%b" % (len(part), part))
    return digest.digest()


def path_mark(path: bytes) -> bytes:
    """Return what stands for a path, however it is spelled."""
    return digest_of(b"path", normal_path(path))


def target_mark(target: Target) -> bytes:
    """Return what stands for a resource."""
    return digest_of(b"target", *target)


def _mark(route: str | None, path: bytes | None, tag: bytes | None) -> bytes:
    if route is None and path is None and tag is None:
        return EVERYTHING
    name = b"" if route is None else b"r" + route.encode()
    return digest_of(b"mark", name, path or b"", tag or b"")


def marks_of(key: Key, route: str) -> tuple[bytes, ...]:
    """Return the marks of all deletions that an answer under this key falls under, whatever its tags are."""
    path = path_mark(key[3])
    return (
        EVERYTHING,
        target_mark(target_of(key)),
        _mark(route, None, None),
        _mark(None, path, None),
        _mark(route, path, None),
    )


def tag_marks(key: Key, route: str, tags: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the marks of all deletions that an answer with these tags falls under because of them."""
    path = path_mark(key[3])
    return tuple(
        _mark(name, at, digest_of(b"tag", tag))
        for tag in tags
        for name in (None, route)
        for at in (None, path)
    )
