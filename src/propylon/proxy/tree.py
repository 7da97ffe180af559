"""Hold what stands on paths by their segments, and grow one tree out of another without changing it. Pure.

Facts. A reload mostly changes a few routes of many, and requests go on to look at the old tree while the new one is made.

Strategy. Nodes of a finished tree are never changed. A new tree begins with the root of the old one and copies the nodes
on the way to each place that changes, each node once; it shares all others. So a reload costs what it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from propylon.proxy.route import Pattern
from propylon.wire.spellings import FORMS, forms

__all__ = ["Node", "Tree", "folds"]

L = TypeVar("L")

# The children of all nodes without children, which are most nodes of a large tree.
_NOTHING: dict[bytes, Node[Any]] = {}


class Node(Generic[L]):
    """A place in the tree of segments."""

    __slots__ = ("exact", "literal", "owner", "prefix", "wildcard")

    def __init__(self, owner: object) -> None:
        """Begin without leaves; only the tree that is the owner's may change this node."""
        self.owner = owner
        self.literal: dict[bytes, Node[L]] = _NOTHING
        self.wildcard: Node[L] | None = None
        self.exact: tuple[L, ...] = ()
        self.prefix: tuple[L, ...] = ()

    # Matching

    def walk(self, segments: list[bytes]) -> tuple[L, ...]:
        """Return what `find` returns; a step a segment as long as no wildcard stands in the way."""
        node = self
        deepest = self.prefix
        depth = 1
        for segment in segments[1:]:
            if node.wildcard is not None:
                return node.find(segments, depth) or deepest
            child = node.literal.get(segment)
            if child is None:
                return deepest
            node = child
            depth += 1
            if node.prefix:
                deepest = node.prefix
        return node.exact or deepest

    def find(self, segments: list[bytes], depth: int) -> tuple[L, ...]:
        """Return the leaves of the most specific place for the segments from `depth` on."""
        if depth == len(segments):
            return self.exact or self.prefix
        segment = segments[depth]
        node = self.literal.get(segment)
        if node is not None and (found := node.find(segments, depth + 1)):
            return found
        if (
            self.wildcard is not None
            and segment
            and (found := self.wildcard.find(segments, depth + 1))
        ):
            return found
        return self.prefix

    def every(self, segments: list[bytes], depth: int = 1) -> Iterator[tuple[L, ...]]:
        """Yield the leaves of all places for the segments, the most specific first: what `walk` returns, then the rest."""
        if depth == len(segments):
            if self.exact:
                yield self.exact
        else:
            segment = segments[depth]
            if (node := self.literal.get(segment)) is not None:
                yield from node.every(segments, depth + 1)
            if self.wildcard is not None and segment:
                yield from self.wildcard.every(segments, depth + 1)
        if self.prefix:
            yield self.prefix

    # Growing

    @property
    def is_bare(self) -> bool:
        """Whether nothing stands at this node or below it."""
        return not (self.exact or self.prefix or self.literal or self.wildcard)

    def copy(self, owner: object) -> Node[L]:
        """Return a node with the same leaves and children, which the owner may change."""
        node: Node[L] = Node(owner)
        if self.literal:
            node.literal = dict(self.literal)
        node.wildcard, node.exact, node.prefix = self.wildcard, self.exact, self.prefix
        return node

    def child(self, segment: bytes | None) -> Node[L] | None:
        """Return the node one segment below, None for any segment."""
        return self.wildcard if segment is None else self.literal.get(segment)

    def attach(self, segment: bytes | None, child: Node[L]) -> None:
        """Put a node one segment below this one."""
        if segment is None:
            self.wildcard = child
        elif self.literal is _NOTHING:
            self.literal = {segment: child}
        else:
            self.literal[segment] = child

    def detach(self, segment: bytes | None) -> None:
        """Take away the node one segment below."""
        if segment is None:
            self.wildcard = None
        else:
            del self.literal[segment]

    def put(self, leaf: L, *, exact: bool) -> None:
        """Put the leaf at this node."""
        if exact:
            self.exact = (*self.exact, leaf)
        else:
            self.prefix = (*self.prefix, leaf)

    def take(self, leaf: L) -> None:
        """Take the leaf away from this node."""
        self.exact = tuple([one for one in self.exact if one is not leaf])
        self.prefix = tuple([one for one in self.prefix if one is not leaf])

    def without(self, other: Node[L] | None) -> Iterator[Node[L]]:
        """Yield this node and those below it, parents first, but for those that a later tree shares."""
        pairs: list[tuple[Node[L], Node[L] | None]] = [(self, other)]
        while pairs:
            node, after = pairs.pop()
            if node is after:
                continue
            yield node
            for segment, child in node.children():
                pairs.append((child, None if after is None else after.child(segment)))

    def children(self) -> Iterator[tuple[bytes | None, Node[L]]]:
        """Yield the nodes one segment below, with their segments."""
        yield from self.literal.items()
        if self.wildcard is not None:
            yield None, self.wildcard


class Tree(Generic[L]):
    """The nodes of one host: by segments as written, and by every form in which an upstream may read them."""

    __slots__ = ("_owner", "folded", "sent")

    def __init__(self, before: Tree[L] | None = None, *, parted: bool = False) -> None:
        """Begin with what stands in the tree before this one, or empty.

        `parted`: some segments have more than one form. As long as all are, one tree does for both.
        """
        self._owner = object()
        if before is None:
            self.sent: Node[L] = Node(self._owner)
            self.folded = self.sent
            if parted:
                self.folded = Node(self._owner)
        else:
            self.sent = self.folded = self._own(before.sent)
            if before.is_parted:
                self.folded = self._own(before.folded)

    @property
    def is_parted(self) -> bool:
        """Whether there is a tree of its own for folded segments."""
        return self.folded is not self.sent

    def add(self, leaf: L, pattern: Pattern) -> None:
        """Plant a leaf where the pattern says."""
        for root, segments in self._both(pattern):
            node = root
            for segment in segments:
                below = node.child(segment)
                below = Node(self._owner) if below is None else self._own(below)
                node.attach(segment, below)
                node = below
            node.put(leaf, exact=pattern.exact)

    def remove(self, leaf: L, pattern: Pattern) -> None:
        """Take away a leaf that stands where the pattern says, and the nodes that only led to it."""
        for root, segments in self._both(pattern):
            node = root
            trail: list[tuple[Node[L], bytes | None]] = []
            for segment in segments:
                below = node.child(segment)
                if below is None:
                    return
                below = self._own(below)
                node.attach(segment, below)
                trail.append((node, segment))
                node = below
            node.take(leaf)
            while trail and node.is_bare:
                node, segment = trail.pop()
                node.detach(segment)

    def _own(self, node: Node[L]) -> Node[L]:
        return node if node.owner is self._owner else node.copy(self._owner)

    def _both(self, pattern: Pattern) -> Iterator[tuple[Node[L], Iterable[bytes | None]]]:
        ends: tuple[tuple[bytes, ...], ...] = ((), (b"",)) if pattern.slash else ((),)
        for end in ends:
            yield self.sent, (*pattern.segments, *end)
            if self.is_parted:
                for spelled in _spellings(pattern):
                    yield self.folded, (*spelled, *end)

    def without(self, after: Tree[L] | None) -> Iterator[Node[L]]:
        """Yield the nodes that a later tree does not share, each before those below it."""
        yield from self.sent.without(None if after is None else after.sent)
        if self.is_parted:
            yield from self.folded.without(None if after is None else after.folded)


def _spellings(pattern: Pattern) -> Iterable[tuple[bytes | None, ...]]:
    """Return the pattern's segments in each form that a reading may have, each once."""
    # One kind of form for all segments of a path, because a server applies its rules to the whole path.
    kinds = [(None,) * FORMS if segment is None else forms(segment) for segment in pattern.segments]
    return dict.fromkeys(zip(*kinds, strict=True)) if kinds else [()]


def folds(pattern: Pattern) -> bool:
    """Return whether some upstream reads one of the segments otherwise than it is written."""
    return any(segment is not None and len(set(forms(segment))) > 1 for segment in pattern.segments)
