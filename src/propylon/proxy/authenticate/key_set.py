"""Read the document of a published key set (JWK Set, RFC 7517, 5) up to its single keys. Pure.

The document comes from outside, and a worker that reads it does nothing else meanwhile. So its size, its depth and the
number of its parts are checked before it is parsed. A key that is doubtful is left out with a reason. The
others stay in use: a mistake in one key must not lock out all users.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from propylon.proxy.authenticate.algorithms import UnusableKeys
from propylon.proxy.authenticate.jws import MAX_DEPTH

__all__ = ["MAX_DOCUMENT", "Entry", "read_entries"]

# Bounds of a published set, in bytes and keys. The large identity providers have ten keys in 20 KB.
MAX_DOCUMENT = 256 * 1024
MAX_KEYS = 256
# Objects, lists and strings in the document. A key has up to three (itself, `x5c`, `key_ops`), so a set of 256 keys stays far
# below. Without this bound a megabyte of brackets kept a worker busy for a second.
MAX_CONTAINERS = 4096
MAX_STRINGS = 16_384  # a key has about twenty, names included

# A string is matched whole, because the brackets in it do not nest. The cost is linear: `++` and `*+` never backtrack,
# and a string without an end is matched, too, so that no byte is looked at twice.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_OPENING, _CLOSING = (b"[", b"{"), (b"]", b"}")

Entry = Mapping[str, object] | str
"""A key as it was published; or the reason why it must not be used."""


def read_entries(document: bytes) -> Sequence[Entry]:
    """Return the keys of a document, in its order. Raises UnusableKeys if it is no key set."""
    published = _parse(document)
    found = published.get("keys") if isinstance(published, dict) else None
    if not isinstance(found, list) or len(found) > MAX_KEYS:
        msg = f"no key set: an object with a list of at most {MAX_KEYS} `keys`"
        raise UnusableKeys(msg)
    entries = [_entry(one) for one in found]
    return list(_without_doubtful(entries))


def _parse(document: bytes) -> object:
    _check_size(document)
    try:
        # Numbers stay text: no member of a key is a number, and one that is out of range spoils nothing then.
        published: object = json.loads(
            document.decode(),
            object_pairs_hook=_read_object,
            parse_int=str,
            parse_float=str,
            parse_constant=_refuse_constant,
        )
    except ValueError:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        msg = "not JSON"
        raise UnusableKeys(msg) from None
    if isinstance(published, _Ambiguous):
        msg = "JSON with a name twice in one object"
        raise UnusableKeys(msg)
    return published


def _check_size(document: bytes) -> None:
    if len(document) > MAX_DOCUMENT:
        msg = f"the document is larger than {MAX_DOCUMENT // 1024} KiB"
        raise UnusableKeys(msg)
    if document.count(b"[") + document.count(b"{") > MAX_CONTAINERS:
        msg = f"more than {MAX_CONTAINERS} objects and lists in the document"
        raise UnusableKeys(msg)
    if document.count(b'"') > 2 * MAX_STRINGS:
        msg = f"more than {MAX_STRINGS} strings in the document"
        raise UnusableKeys(msg)
    depth = 0
    for match in _STRUCTURE.finditer(document):
        depth += (match[0] in _OPENING) - (match[0] in _CLOSING)
        if depth > MAX_DEPTH:  # the parser recurses
            msg = f"JSON nested deeper than {MAX_DEPTH}"
            raise UnusableKeys(msg)


class _Ambiguous:
    """Stands for an object with a name twice: readers do not agree which of the two values counts."""


def _read_object(pairs: list[tuple[str, object]]) -> object:
    members = dict(pairs)
    return members if len(members) == len(pairs) else _Ambiguous()


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON (RFC 8259, 6)


def _entry(published: object) -> Entry:
    if isinstance(published, _Ambiguous):
        return "JSON with a name twice in one object"
    return published if isinstance(published, dict) else "no JSON object"


def _without_doubtful(entries: Sequence[Entry]) -> Iterator[Entry]:
    keys = [entry for entry in entries if not isinstance(entry, str)]
    # A secret in a set with public keys was published by mistake, so everyone has it.
    mixed = len({_is_secret(key) for key in keys}) > 1
    # Keys for encryption do not count: some issuers give both keys of a pair one id.
    counts = Counter(_id_for_signatures(key) for key in keys)
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif mixed and _is_secret(entry):
            yield "a secret among public keys"
        elif (name := _id_for_signatures(entry)) is not None and counts[name] > 1:
            yield "another key of the set has the same kid"
        else:
            yield entry


def _is_secret(key: Mapping[str, object]) -> bool:
    return key.get("kty") == "oct"


def _id_for_signatures(key: Mapping[str, object]) -> str | None:
    name = key.get("kid")
    return name if isinstance(name, str) and key.get("use", "sig") == "sig" else None
