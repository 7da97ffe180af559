"""Generate requests that have smuggled, somewhere, once: every spelling of every trick. Pure.

Each variant is a first request that a strict parser must refuse. Behind it, or in what another parser
would take for its body, stands a request for a target with the marker.
"""

from collections.abc import Iterator

from tests.support.attack import HOST, NEXT, get, post

Variants = dict[str, bytes]

CL, TE = b"Content-Length", b"Transfer-Encoding"
LENGTH = b"%d" % len(b"0\r\n\r\n" + NEXT)
# A chunked body that is over at once for one parser, and 5 bytes for another.
OVER = b"0\r\n\r\n" + NEXT


def spelled(value: bytes) -> str:
    """Name a variant after its odd bytes."""
    return repr(value)[2:-1].replace("\\r\\n", "CRLF").replace("[", "(").replace("]", ")")


def length_and_coding() -> Iterator[tuple[str, bytes]]:
    """Content-Length and Transfer-Encoding together: in any order, case and value."""
    for coding in (b"chunked", b"Chunked", b"CHUNKED", b"identity", b"gzip, chunked", b"x"):
        for size in (b"0", b"5", LENGTH, b"1"):
            length_line, coding_line = CL + b": " + size, TE + b": " + coding
            yield f"cl-te {spelled(coding)} {spelled(size)}", post(
                length_line, coding_line, body=OVER
            )
            yield f"te-cl {spelled(coding)} {spelled(size)}", post(
                coding_line, length_line, body=OVER
            )
    for name in (b"content-length", b"CONTENT-LENGTH", b"Content-length", b"cOnTeNt-LeNgTh"):
        yield f"case {spelled(name)}", post(TE.swapcase() + b": chunked", name + b": 5", body=OVER)


def odd_lengths() -> Iterator[tuple[str, bytes]]:
    """Numbers that some parser takes for another number."""
    values = [
        b"+5", b"-5", b"-0", b"+0", b"0x5", b"0X5", b"5_0", b"5e0", b"5.0", b"5 5", b"5,5", b"5, 5", b"5,6",
        b"5;", b"5;q=1", b'"5"', b"'5'", b"", b"\t", b"0b1", b"0o5", b"five", b"5a", b"a5", b"5\x00", b"\x0b5", b"5\x0c",
        b"\x855", b"\xc2\xa05", b"5\xa0", b"\xef\xbc\x95", b"\xd9\xa5", b"1" * 20, b"9" * 19, b"9" * 40, b"18446744073709551616", b"4294967296,5",
        b"NaN", b"inf", b"5\x7f", b"(5)", b"5,", b",5", b"0 5", b"5\r\n 6", b"5\r\n\t", b"5\n6",
    ]  # fmt: skip
    for value in values:
        yield f"length {spelled(value)}", post(CL + b": " + value, body=b"hello" + NEXT)
    for first, second in ((b"5", b"6"), (b"0", b"5"), (b"5", b"0"), (b"5", b"5"), (b"5", b"05")):
        lines = (CL + b": " + first, CL + b": " + second)
        yield f"lengths {spelled(first)} {spelled(second)}", post(*lines, body=b"hello" + NEXT)


def odd_codings() -> Iterator[tuple[str, bytes]]:
    """Values of Transfer-Encoding that only some parsers take for chunked."""
    values = [
        b"xchunked", b"chunkedx", b"chunke", b"chunk", b"chunked chunked", b"chunked, chunked", b"chunked,chunked",
        b"identity, chunked", b"chunked, identity", b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"deflate,chunked",
        b'"chunked"', b"'chunked'", b"\x0bchunked", b"\x0cchunked", b"chunked\x0b", b"chunked\x00", b"\x00chunked", b"chunked\x0c",
        b"\xa0chunked", b"chunked\xa0", b"\xffchunked", b"", b",", b",chunked", b"chunked,", b",chunked,", b"chunked;", b"chunked;q=1",
        b"chunked; a=b", b"chunked=1", b"x, chunked", b"chunked\r\n ", b"\r\n chunked", b"\r\n\tchunked", b"chu\r\n nked", b"chunked\n",
        b"\nchunked", b"\rchunked", b"chunked\r", b"ch\tunked", b"c h u n k e d", b"ch\xc3\xbcnked", b"chun\xe2\x84\xaaed", b"trailers", b"1", b"(chunked)", b"\x01chunked",
    ]  # fmt: skip
    for value in values:
        yield f"coding {spelled(value)}", post(TE + b": " + value, body=OVER)
    for value in (b"xchunked", b"identity", b"\x0bchunked", b"", b"chunked, identity", b"gzip"):
        yield (
            f"coding-length {spelled(value)}",
            post(CL + b": 5", TE + b": " + value, body=b"0\r\n\r\n" + NEXT),
        )
    for first in (b"chunked", b"identity", b"x", b""):
        for second in (b"chunked", b"identity", b"x", b""):
            lines = (TE + b": " + first, TE + b": " + second)
            yield f"codings {spelled(first)} {spelled(second)}", post(*lines, body=OVER)


def odd_names() -> Iterator[tuple[str, bytes]]:
    """Names that only some parsers take for the framing headers, or for a header at all."""
    for name, value in ((TE, b"chunked"), (CL, LENGTH)):
        for before in (
            b" ",
            b"\t",
            b"\x0b",
            b"\x0c",
            b"\x00",
            b"\r",
            b"\n",
            b"\xa0",
            b"\x01",
            b"(",
            b":",
            b"\x85",
        ):
            yield f"before {spelled(before + name)}", post(before + name + b": " + value, body=OVER)
        for after in (
            b" ",
            b"\t",
            b"\x0b",
            b"\x0c",
            b"\x00",
            b"\r",
            b"\n",
            b"\xa0",
            b"\x01",
            b")",
            b"\x7f",
            b" :",
        ):
            yield f"after {spelled(name + after)}", post(name + after + b": " + value, body=OVER)
        for middle in (b" ", b"\t", b"\x00", b"\r", b"\x01", b"\xad", b"\x0b"):
            odd = name.replace(b"-", middle + b"-")
            yield f"inside {spelled(odd)}", post(odd + b": " + value, body=OVER)
        yield f"no colon {spelled(name)}", post(name + b" " + value, body=OVER)
        yield f"equals {spelled(name)}", post(name + b"=" + value, body=OVER)
        yield f"folded {spelled(name)}", post(b"X: y", b" " + name + b": " + value, body=OVER)
        yield f"bare LF {spelled(name)}", post(b"X: y\n" + name + b": " + value, body=OVER)
        yield f"bare CR {spelled(name)}", post(b"X: y\r" + name + b": " + value, body=OVER)
        yield f"LF CR {spelled(name)}", post(b"X: y\n\r" + name + b": " + value, body=OVER)
        yield f"CR CR LF {spelled(name)}", post(b"X: y\r\r\n" + name + b": " + value, body=OVER)
        yield f"NUL line {spelled(name)}", post(b"\0", name + b": " + value, body=OVER)


def chunk_spellings() -> Iterator[tuple[str, bytes]]:
    """Sizes, extensions and line ends of chunks that some parser reads otherwise."""
    sizes = [
        b"0x5", b"0X5", b"5_0", b"+5", b"-5", b" 5", b"5 ", b"\t5", b"5\t", b"5\x0b", b"\x0b5", b"5\x00", b"5h", b"g", b"", b"5.",
        b"5,5", b"\xd9\xa5", b"\xef\xbc\x95", b"5\xa0", b"0" * 16 + b"5", b"1" + b"0" * 16, b"f" * 16, b"f" * 40,
        b"5\r", b"5\n", b"5;\n", b"5;a\n", b"5;a\r", b"5;a=\x00", b"5;a=\x01", b"5;a=\x7f", b"5;", b"5; ", b"5;a ", b"5;a=b ", b"5;bad[=x", b'5;a="b', b"5;=b", b"5;a=", b"5 a", b"5;a=" + b"b" * 20_000, b'"5"', b"5\r\r", b"5 0", b"5-", b"1.1",
    ]  # fmt: skip
    for size in sizes:
        body = size + b"\r\nhello\r\n0\r\n\r\n" + NEXT
        yield f"chunk {spelled(size)[:40]}", post(TE + b": chunked", body=body)
    ends = {
        "lf": b"5\r\nhello\n0\r\n\r\n",
        "cr": b"5\r\nhello\r0\r\n\r\n",
        "none": b"5\r\nhello0\r\n\r\n",
        "two": b"5\r\nhelloXX0\r\n\r\n",
        "more": b"5\r\nhello world\r\n0\r\n\r\n",
        "less": b"5\r\nhi\r\n0\r\n\r\n",
        "lflf": b"5\r\nhello\n\n0\r\n\r\n",
        "size-lf": b"5\nhello\r\n0\r\n\r\n",
        "size-cr": b"5\rhello\r\n0\r\n\r\n",
        "last-lf": b"5\r\nhello\r\n0\n\r\n",
        "last-lflf": b"5\r\nhello\r\n0\n\n",
        "last-crcr": b"5\r\nhello\r\n0\r\n\r\r",
        "last-x": b"5\r\nhello\r\n0\r\nX",
        "trailer-fold": b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
        "trailer-line": b"5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
        "trailer-lf": b"5\r\nhello\r\n0\r\nA: b\n\r\n",
        "trailer-cr": b"5\r\nhello\r\n0\r\nA: b\rC: d\r\n\r\n",
        "trailer-nul": b"5\r\nhello\r\n0\r\nA: \0\r\n\r\n",
        "trailer-space": b"5\r\nhello\r\n0\r\nA : b\r\n\r\n",
    }
    for name, body in ends.items():
        yield f"chunk end {name}", post(TE + b": chunked", body=body + NEXT)


def old_versions() -> Iterator[tuple[str, bytes]]:
    """Framing that HTTP/1.0, and what is no version, give another meaning."""
    for connection in (b"X: y", b"Connection: keep-alive", b"Connection: close"):
        yield (
            f"1.0 {spelled(connection)}",
            post(connection, TE + b": chunked", body=OVER, version=b"1.0"),
        )
    for version in (
        b"1.2",
        b"1.10",
        b"2.0",
        b"0.9",
        b"1",
        b"01.1",
        b"1.01",
        b"1,1",
        b"1.1.1",
        b"9.9",
        b"-1.1",
        b"x",
    ):
        yield f"version {spelled(version)}", post(TE + b": chunked", body=OVER, version=version)
        yield f"version get {spelled(version)}", post(version=version) + NEXT


def odd_hosts() -> Iterator[tuple[str, bytes]]:
    """Hosts that make two parsers route one request to two places."""
    values = [
        b"", b" ", b"a,b", b"a b", b"a/b", b"/", b"user@a", b"a@", b"a:80:", b":80", b"a:x", b"a:99999", b"a:-1", b"a:+80", b"a:80:80", b"a:8_0",
        b"a\\b", b"a?b", b"a#b", b"a\tb", b"a\x00b", b"a\x01b", b"a\x7f", b"\xe9", b"[::1", b"::1]", b"[zz]", b"[::1]x", b"<a>", b'"a"', b"a;b:x",
        b"http://a", b"a\x0b", b"a^b", b"a|b", b"{a}", b"a`b", b"a:0x50", b"[::1]:99999", b"a..b/..",
    ]  # fmt: skip
    for value in values:
        yield f"host {spelled(value)}", get(host=b"Host: " + value + b"\r\n") + NEXT
    pairs = {
        "two": b"Host: a\r\nHost: b\r\n",
        "same": b"Host: a\r\nHost: a\r\n",
        "case": b"Host: a\r\nHOST: b\r\n",
        "none": b"",
        "folded": b"Host: a\r\n b\r\n",
        "folded-first": b"X: y\r\n Host: a\r\n",
        "space": b"Host : a\r\n",
        "leading": b" Host: a\r\n",
        "leading-second": b"Host: a\r\n Host: b\r\n",
        "tab-second": b"Host: a\r\n\tHost: b\r\n",
        "nul": b"Host\0: a\r\n",
        "three": b"Host: a\r\nX: y\r\nHost: b\r\nHost: c\r\n",
    }
    for name, lines in pairs.items():
        yield f"hosts {name}", get(host=lines) + NEXT


def line_tricks() -> Iterator[tuple[str, bytes]]:
    """Line ends, blanks and control bytes where a line is expected."""
    good = get(b"X: y")
    lines = {
        "lf": good.replace(b"\r\n", b"\n"),
        "cr": good.replace(b"\r\n", b"\r"),
        "lfcr": good.replace(b"\r\n", b"\n\r"),
        "crcrlf": good.replace(b"\r\n", b"\r\r\n"),
        "first-lf": good.replace(b"1.1\r\n", b"1.1\n"),
        "last-lf": good[:-2] + b"\n",
        "last-lflf": good[:-4] + b"\n\n",
        "value-lf": get(b"X: a\nb: c"),
        "value-cr": get(b"X: a\rb: c"),
        "value-crcr": get(b"X: a\r\r\nb: c"),
        "value-nul": get(b"X: a\0b"),
        "fold": get(b"X: a", b" b: c"),
        "fold-tab": get(b"X: a", b"\tb: c"),
        "fold-first": b"GET /up/x HTTP/1.1\r\n X: y\r\n" + HOST + b"\r\n",
        "space-line": get(b" "),
        "name-empty": get(b": a"),
        "two-spaces": b"GET  /up/x HTTP/1.1\r\n" + HOST + b"\r\n",
        "tab": b"GET\t/up/x\tHTTP/1.1\r\n" + HOST + b"\r\n",
        "vtab": b"GET\x0b/up/x HTTP/1.1\r\n" + HOST + b"\r\n",
        "trailing-space": b"GET /up/x HTTP/1.1 \r\n" + HOST + b"\r\n",
        "leading-space": b" GET /up/x HTTP/1.1\r\n" + HOST + b"\r\n",
        "leading-nul": b"\0GET /up/x HTTP/1.1\r\n" + HOST + b"\r\n",
        "method-nul": b"GE\0T /up/x HTTP/1.1\r\n" + HOST + b"\r\n",
        "method-odd": b"G(T /up/x HTTP/1.1\r\n" + HOST + b"\r\n",
        "target-lf": b"GET /up/x\n HTTP/1.1\r\n" + HOST + b"\r\n",
        "target-cr": b"GET /up/x\r HTTP/1.1\r\n" + HOST + b"\r\n",
        "target-space": b"GET /up/x y HTTP/1.1\r\n" + HOST + b"\r\n",
        "version-none": b"GET /up/x\r\n" + HOST + b"\r\n",
        "version-lower": b"GET /up/x http/1.1\r\n" + HOST + b"\r\n",
        "version-space": b"GET /up/x HTTP/ 1.1\r\n" + HOST + b"\r\n",
        "version-other": b"GET /up/x HTP/1.1\r\n" + HOST + b"\r\n",
    }
    for name, head in lines.items():
        yield f"line {name}", head + NEXT


def upgrades() -> Iterator[tuple[str, bytes]]:
    """A body that stands between a request and the protocol that it asks for."""
    lines = (b"Connection: Upgrade", b"Upgrade: websocket")
    yield "upgrade length", post(*lines, CL + b": " + LENGTH, body=OVER)
    yield "upgrade chunked", post(*lines, TE + b": chunked", body=OVER)


GROUPS = (
    length_and_coding,
    odd_lengths,
    odd_codings,
    odd_names,
    chunk_spellings,
    old_versions,
    odd_hosts,
    line_tricks,
    upgrades,
)


def variants() -> Variants:
    """Every variant by its name."""
    found: Variants = {}
    for group in GROUPS:
        for name, payload in group():
            assert name not in found, name
            found[name] = payload
    return found
