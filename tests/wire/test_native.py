"""The compiled part: what it accepts, Python accepts with an equal result; it refuses nothing, and may be missing."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propylon.wire import native
from propylon.wire.headers import take
from propylon.wire.lookalikes import _KNOWN, letters
from propylon.wire.message import LOOKED_AT
from propylon.wire.request import SPECIAL
from propylon.wire.response import LOOKED_AT as LOOKED_AT_IN_ANSWERS
from propylon.wire.response import SPECIAL as SPECIAL_IN_ANSWERS
from tests.support.examples import examples
from tests.support.heads import compare, random_head

compiled = pytest.mark.skipif(
    native.implementation == "pure", reason="no compiled part: no compiler, or PROPYLON_PURE"
)

_LINE = b"GET /a?b HTTP/1.1"
_STATUS = b"HTTP/1.1 200 OK"
# One of each name that either side knows, and names that nobody knows.
_NAMES = sorted(
    {name.encode() for name in _KNOWN}
    | {
        b"host", b"connection", b"content-length", b"transfer-encoding", b"te", b"trailer", b"expect", b"keep-alive",
        b"proxy", b"proxy-", b"proxy-connection", b"proxy-authenticate", b"proxy-authentication-info", b"forwarded",
        b"max-forwards", b"traceparent", b"tracestate", b"authorization", b"origin", b"dnt", b"sec-gpc", b"upgrade",
        b"access-control-request-method", b"access-control-request-headers", b"x-forwarded", b"x-forwarded-for",
        b"x-user-id", b"x-user-", b"x-user", b"x-username", b"x-client-cert-a", b"x-client-cert", b"x-request-id",
        b"x-real-ip", b"x-original-url", b"x-rewrite-url", b"x-http-method-override", b"x-privacy-level",
        b"x-error-source", b"location", b"content-location", b"refresh", b"link", b"set-cookie", b"accept", b"x",
    }
)  # fmt: skip


def _spellings(name: bytes) -> set[bytes]:
    """The name, and what a lenient reader may take for it."""
    plain = letters(name)
    changed = {name.replace(b"-", other) for other in (b"_", b".", b"", b"--", b"1")}
    return {
        name,
        name.title(),
        name.upper(),
        b"-" + name,
        name + b"_",
        name[:2] + b"'" + name[2:],
        plain,
    } | changed


def _head(first: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((first, *lines)) + b"\r\n\r\n"


@compiled
@pytest.mark.parametrize("name", _NAMES)
def test_every_name(name: bytes) -> None:
    """Each spelling of each name means what the patterns say, or is left to them."""
    for spelled in _spellings(name):
        value = b"5" if b"length" in name else b"chunked"
        line = b"\r\n%b: %b" % (spelled, value)
        read = native.request(_LINE + b"\r\nAccept: a" + line + b"\r\nX-Last: b\r\n\r\n")
        if read is not None:
            block = b"\r\nAccept: a" + line + b"\r\nX-Last: b"
            assert read[4:] == take(block, SPECIAL, LOOKED_AT)
        answer = native.response(_STATUS + line + b"\r\nServer: b\r\n\r\n")
        if answer is not None:
            block = line + b"\r\nServer: b"
            assert answer[2:] == take(block, SPECIAL_IN_ANSWERS, LOOKED_AT_IN_ANSWERS)


def _texts(parsed: Iterable[Any]) -> list[bytes]:
    """Texts that a part of a pattern matches: each of its alternatives, and one letter for any byte."""
    texts = [b""]
    for kind, value in parsed:
        name = str(kind)
        if name == "LITERAL":
            more = [bytes((value,))]
        elif name == "BRANCH":
            more = [text for branch in value[1] for text in _texts(branch)]
        elif name == "SUBPATTERN":
            more = _texts(value[-1])
        elif name == "MAX_REPEAT":
            more = [b"", *_texts(value[2])] if value[0] == 0 else _texts(value[2])
        else:
            more = [b"a"]
        texts = [text + end for text in texts for end in more]
    return texts


@compiled
@pytest.mark.parametrize(("pattern", "request_"), [(SPECIAL, True), (SPECIAL_IN_ANSWERS, False)])
def test_every_name_of_the_patterns_is_known(pattern: re.Pattern[bytes], request_: bool) -> None:
    """Who adds a name to the pattern alone is told here that `_heads.c` does not know it."""
    group = str(pattern.pattern, "ascii").removeprefix("\\r\\n").removeprefix("(?:")
    depths = accumulate((letter == "(") - (letter == ")") for letter in group)
    size = next(at for at, depth in enumerate(depths, 1) if depth == 0)
    names = [name for name in _texts(re._parser.parse(group[:size])) if name]  # type: ignore[attr-defined]
    assert len(names) > 15
    assert {b"content-length", b"upgrade"} <= set(names)
    for name in names:
        reader, line = (native.request, _LINE) if request_ else (native.response, _STATUS)
        read = reader(_head(line, name + b": 1"))
        assert read is None or name in read[-1], name


@compiled
@given(st.integers(0, 2**64 - 1), st.booleans())
@examples(600)
def test_what_is_accepted_is_read_alike(seed: int, request: bool) -> None:
    """All that a message says, and each refusal of Python's own checks, is the same on both ways."""
    reader = native.request if request else native.response
    # Of a generator that Hypothesis controls, each of hundreds of numbers for a head takes as long as the comparison.
    compare(random_head(Random(seed), request=request), request=request, compiled=reader)


@compiled
def test_random_heads_say_something() -> None:
    """Of the heads above many are accepted, and many are not."""
    random = Random(5)
    for request, reader in ((True, native.request), (False, native.response)):
        heads = [random_head(random, request=request) for _ in range(300)]
        accepted = sum(compare(head, request=request, compiled=reader) for head in heads)
        assert 30 < accepted < 270


@compiled
@pytest.mark.parametrize(
    "head",
    [
        _head(_LINE, b"Host: a", b"Content-Length: 1", b"Content-Length: 1"),
        _head(_LINE, b"Host: a", b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        _head(_LINE, b"Host: a", b"Transfer-Encoding: gzip, chunked"),
        _head(_LINE, b"Host: a", b"Content_Length: 1"),
        _head(_LINE, b"Host: a", b"X_User_Id: 1"),
        _head(_LINE, b"Host : a"),
        _head(_LINE, b"Host: a", b" folded"),
        _head(_LINE, b"Host: a\x00"),
        _head(_LINE, b"Host: a\nX: y"),
        _head(_LINE, b"Host: a") + b"x",
        _head(_LINE, b"Host: a")[:-1],
        _head(b"GET /a  HTTP/1.1", b"Host: a"),
        _head(b"GET /\xc3\xa9 HTTP/1.1", b"Host: a"),
        _head(b"CONNECT a:1 HTTP/1.1", b"Host: a"),
        _head(_LINE, *[b"A: b"] * 260),
        _LINE,
        b"",
        b"GET /",
        b"\r\n\r\n",
    ],
)
def test_what_is_in_doubt_is_declined(head: bytes) -> None:
    """What could be read in two ways, and what no head is, is for llhttp and the patterns."""
    assert native.request(head) is None
    assert native.response(head) is None


@compiled
def test_usual_heads_are_accepted() -> None:
    """A browser's request, a form, and an answer do not take the long way."""
    browser = (
        b"Host: a.test",
        b"User-Agent: M (X11; rv)",
        b"Accept: */*",
        b"Connection: keep-alive",
    )
    assert native.request(_head(_LINE, *browser, b"X-Forwarded-For: 192.0.2.1")) is not None
    assert native.request(_head(b"POST /a HTTP/1.1", *browser, b"Content-Length: 12")) is not None
    assert native.request(_head(b"PUT /a HTTP/1.1", *browser, b"Transfer-Encoding: chunked"))
    assert native.response(_head(_STATUS, b"Content-Length: 1", b"Set-Cookie: a=b")) is not None


@compiled
@pytest.mark.parametrize("wrong", [None, "GET / HTTP/1.1\r\n\r\n", bytearray(b"GET / HTTP/1.1")])
def test_only_bytes_are_heads(wrong: object) -> None:
    """Anything else is a fault of the caller."""
    for reader in (native.request, native.response):
        with pytest.raises(TypeError):
            reader(wrong)  # type: ignore[arg-type]


@compiled
def test_nothing_is_kept() -> None:
    """What was made of a head is given back with it, what was declined leaves nothing."""
    random = Random(9)
    heads = [random_head(random, request=request) for request in (True, False) for _ in range(100)]

    def blocks() -> int:
        for head in heads:
            native.request(head)
            native.response(head)
        return sys.getallocatedblocks()

    blocks()
    before = blocks()
    after = [blocks() for _ in range(10)][-1]
    # A reference that is not given back would be one block for each of a thousand heads.
    assert after - before < 100


_SAY = "from propylon.wire import native; print(native.implementation, native.problem)"


def _said(folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _SAY],
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _package(folder: Path) -> Path:
    """The package as far as heads need it, without the compiled part; return where that would be."""
    source = Path(native.__file__).parent
    wire = folder / "propylon" / "wire"
    wire.mkdir(parents=True)
    (folder / "propylon" / "__init__.py").touch()
    for name in ("__init__.py", "native.py", "headers.py", "grammar.py"):
        (wire / name).write_bytes((source / name).read_bytes())
    return wire / "_heads.abi3.so"


def test_it_may_be_missing_or_broken(tmp_path: Path) -> None:
    """Without it, with one that cannot be loaded, and with PROPYLON_PURE: pure; only the second is a problem."""
    file = _package(tmp_path)
    assert _said(tmp_path) == "pure \n"
    file.write_bytes(b"no library")
    assert _said(tmp_path).startswith("pure ")
    assert "_heads.abi3.so" in _said(tmp_path)
    assert _said(tmp_path, PROPYLON_PURE="1") == "pure \n"
