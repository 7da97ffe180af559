r"""Write down what messages, tokens and times are made of: each rule once, with its RFC section. Pure.

Facts. A rule that stands in two places comes to differ in them. A scope that the configuration accepts and
no token can carry locks every client out; a header value that one side reads as one line and the other as
two is request smuggling. So the other packages ask these patterns and have none of their own.

Rules.

1. A pattern has the name that its RFC gives it. Where Propylon is stricter than the RFC, the comment says
   which attack or which reader is the reason; where it is more lenient, which browser or upstream.
2. Patterns are for `fullmatch`, so none of them has an anchor: `$` also matches before a last line feed.
3. A pattern is for bytes, because messages are bytes. `..._TEXT` is the same rule for the texts of a
   configuration, of a token or of Python code.
4. No digits reach `int` before a pattern has admitted them: `int` takes `+5`, `5_0`, ` 5` and `٣`, and the
   time that it takes for a million digits is an attack.
5. Where a pattern cannot express all of a rule (a port is at most 65535), a function beside it checks the rest.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = [
    "ABSOLUTE_FORM",
    "BAD_ESCAPE",
    "BEARER",
    "CHUNK_LINE",
    "CONTENT_LENGTH",
    "DELAY_SECONDS",
    "DICTIONARY_MEMBER",
    "ENTITY_TAG",
    "ENTITY_TAG_TEXT",
    "FIELD_VALUE",
    "FIELD_VALUE_TEXT",
    "FORWARDED_PAIR",
    "HEXDIG",
    "HOST",
    "LATEST",
    "MAX_FORWARDS",
    "MAX_PORT",
    "ORIGIN_FORM",
    "OWS",
    "PARTIAL_TRAILER_LINE",
    "PLAIN_REQUEST_LINE",
    "QDTEXT",
    "QUERY_TEXT",
    "QUOTED_PAIR",
    "REFERENCE",
    "REQUEST_ID",
    "REQUEST_LINE",
    "SCOPE_TEXT",
    "SEGMENT_TEXT",
    "SERIALIZED_ORIGIN",
    "STATUS_LINE",
    "TOKEN",
    "TOKEN68",
    "TOKEN_TEXT",
    "TRAILER_LINE",
    "UNRESERVED",
    "VISIBLE_VALUE_TEXT",
    "WEBSOCKET_KEY",
    "date_time",
    "read_date_time",
    "read_port",
]


def _bytes(pattern: str) -> re.Pattern[bytes]:
    """Compile a rule for bytes: it is written in ASCII, other bytes as escapes."""
    return re.compile(pattern.encode("ascii"))


# ------------------------------------------------------------------ RFC 9110, HTTP Semantics

# 5.6.3: OWS is any number of spaces and tabs. `bytes.strip()` without an argument would also take
# VT and FF, which are no white space to HTTP: a value that we strip and the upstream does not is
# two values. The same section has BWS ("bad"), which a recipient must parse and remove.
OWS = b" \t"
_bws = r"[\t ]*+"

# 5.6.2: token, of which methods and field names (5.1) are made.
_token = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 — a rule of a grammar
TOKEN = _bytes(_token)
TOKEN_TEXT = re.compile(_token)

# 5.5: field-value, with obs-text (0x80-0xff): old upstreams send Latin-1, most send UTF-8, and both
# pass as they are. No CR, LF or NUL, which end a line for some reader. No white space at the ends:
# it belongs to the line and not to the value, and every recipient takes it off.
_content = r"[\t\x20-\x7e\x80-\xff]*"
_vchar = r"[\x21-\x7e\x80-\xff]"
_value = rf"(?:{_vchar}(?:{_content}{_vchar})?)?"
FIELD_VALUE = _bytes(_value)
FIELD_VALUE_TEXT = re.compile(_value)
# 5.6.4: quoted-string, of qdtext and quoted-pair: a backslash takes the next byte as it is, a quote
# included.
_qdtext = r"[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]"
_quoted_pair = r"\\[\t\x20-\x7e\x80-\xff]"
_quoted_string = rf'"(?:{_qdtext}|{_quoted_pair})*+"'
QDTEXT = _bytes(_qdtext)
QUOTED_PAIR = _bytes(_quoted_pair)
# 5.5: a new value should keep to US-ASCII. What an operator writes is text without an encoding: `é`
# would be one byte to one upstream and two to the next.
VISIBLE_VALUE_TEXT = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")

# 8.6: 1*DIGIT. 18 digits stay below 2**63, so that the integer of no recipient overflows.
CONTENT_LENGTH = _bytes(r"[0-9]{1,18}")
# 7.6.2: 1*DIGIT. No chain has a thousand proxies, and a recipient may lower the number to what it
# supports.
MAX_FORWARDS = _bytes(r"[0-9]{1,3}")
# 10.2.3: delay-seconds of Retry-After, 1*DIGIT. Ten digits are three centuries.
DELAY_SECONDS = _bytes(r"[0-9]{1,10}")

# 8.8.3: entity-tag. No white space and no quote within it, and no backslash that would take one.
ENTITY_TAG = _bytes(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

# 11.4: credentials; the scheme in any case (11.1), then one token68 (11.2), which RFC 6750, 2.1
# calls b64token.
BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*")

# RFC 3986, 2.3: unreserved, the characters that mean the same escaped and bare.
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")

# Not of an RFC: what a client may choose as its X-Request-ID. It is safe in a header, a log line, a
# URL and a shell; anything else would let the client write into the log of the gateway and of every
# upstream.
REQUEST_ID = _bytes(r"[A-Za-z0-9._~+/=-]{1,128}")


# ------------------------------------------------------------------ RFC 9112, HTTP/1.1

# 3.2.1: origin-form. RFC 3986 has no `"<>[]^{|}`, and no backslash and backtick either, but
# browsers send them unescaped; they pass as they are. Never a fragment (`#`), a space, a control
# byte or a byte above ASCII: what comes after one of these is another part of the request line to
# some reader.
_path = r"/[\x21\x22\x24-\x3e\x40-\x7e]*"  # all of those but `?`, which begins the query
_query = r"\?[\x21\x22\x24-\x7e]*"
ORIGIN_FORM = _bytes(rf"{_path}(?:{_query})?")
# 3.2.2: absolute-form, which a proxy must accept. The rest is judged as origin-form.
ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE)
# 3: request-line, with exactly one space between its parts. Here the target is only cut out.
REQUEST_LINE = _bytes(rf"{_token} [!-\xff]+ HTTP/1\.[01]")
# The request line that nearly all requests have. A method in capitals, so that it needs no
# decoding.
PLAIN_REQUEST_LINE = _bytes(rf"([A-Z]+) ({_path})({_query})? HTTP/1\.1")
# 4: status-line. The reason is ignored, and its space may be missing: some upstreams leave it out.
# 9110, 15: a status outside of 100-599 is invalid; a client should treat 600-999 as a 5xx, and
# some services use them.
STATUS_LINE = _bytes(r"HTTP/1\.([01]) ([1-9][0-9]{2})( [^\r\n]*)?")

# 7.1: chunk-size. 15 hexadecimal digits stay below 2**63. 7.1.1: chunk-ext, with BWS around `;` and
# `=`, and none behind the last name or value. Only CRLF ends the line: Kestrel took a bare LF in an
# extension for the end, proxies did not (CVE-2025-55315). Each byte has one reading only, so the
# possessive quantifiers (`++`) lose nothing, and a line of 16 KiB cannot make the search go back.
_hexdig = r"[0-9A-Fa-f]"
HEXDIG = _bytes(_hexdig)
_token_whole = _token[:-1] + "++"
_chunk_ext = rf"{_bws};{_bws}{_token_whole}(?:{_bws}={_bws}(?:{_token_whole}|{_quoted_string}))?"
CHUNK_LINE = _bytes(rf"({_hexdig}{{1,15}})(?:{_chunk_ext})*\r\n")
# 7.1.2: a trailer is a field line. 5.1: no white space before the colon.
TRAILER_LINE = _bytes(rf"{_token}:{_content}\r\n")
# The beginning of a trailer, for a reader that has not got all of it yet; `chunk_line` reads such a
# size line.
PARTIAL_TRAILER_LINE = _bytes(rf"(?:{_token}(?::{_content}\r?)?|\r)")


# ------------------------------------------------------------------ RFC 3986, URIs

# 3.2.2 and RFC 9110, 7.2: Host is uri-host [ ":" port ]. Without percent-encoding: no browser sends
# it, and a reader that decodes it sees another host. 255 characters, as 3.2.2 advises and DNS
# demands (RFC 1035, 2.3.4); the longest address has 45, the shortest (`::`) two.
HOST = _bytes(
    r"(?P<name>[A-Za-z0-9._~!$&'()*+;=-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5})?)?"
)
# 3.2.3 has *DIGIT; TCP has 16 bits.
MAX_PORT = 65535
_PORT_TEXT = re.compile(r"[0-9]{1,5}")

# 2.1: a `%` that is not followed by two hexadecimal digits. For `search`.
BAD_ESCAPE = _bytes(r"%(?![0-9A-Fa-f]{2})")
# 3.3: pchar; and 3.4: query = *( pchar / "/" / "?" ). These are for paths that an operator or a
# service writes.
_pchar = r"[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}"
SEGMENT_TEXT = re.compile(rf"(?:{_pchar})*")
QUERY_TEXT = re.compile(rf"(?:{_pchar}|[/?])*")


# Appendix B: a URI reference, cut into its parts; every text is one. Only an http URL has an authority that means
# something here.
REFERENCE = re.compile(
    rb"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?P<rest>.*)",
    re.DOTALL,
)


def read_port(text: str) -> int | None:
    """Return the port that a text says, from 0 to 65535; None if it says none."""
    if _PORT_TEXT.fullmatch(text) is None or int(text) > MAX_PORT:
        return None
    return int(text)


# ------------------------------------------------------------------ RFC 8941, Structured Field Values

# 3.2: a member of a dictionary, for `match`: its key, its bare item (3.3) if it has one, and parameters (3.1.2). Without
# inner lists, which no field that is read here has. An integer has 15 digits at most, so it fits any number.
_sf_key = r"[a-z*][a-z0-9_.*-]*"
_sf_item = (
    r'(?:-?[0-9]{1,15}(?:\.[0-9]{1,3})?|"(?:[ !#-\[\]-~]|\\["\\])*"'
    r"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*|\?[01]|:[A-Za-z0-9+/=]*:)"
)
DICTIONARY_MEMBER = _bytes(rf"({_sf_key})(?:=({_sf_item}))?(?:;[ ]*{_sf_key}(?:={_sf_item})?)*+")


# ------------------------------------------------------------------ RFC 7239, Forwarded

# 4: forwarded-pair = token "=" value, value = token / quoted-string (RFC 9110, 5.6.4); for `match`, one after the other. A
# token here has no colon, so an address with a port and one of IPv6 are quoted.
FORWARDED_PAIR = _bytes(
    rf"[ \t]*({_token})=(?:({_token})|\"((?:[\t\x20!\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*)\")[ \t]*"
)


# ------------------------------------------------------------------ RFC 6454, The Web Origin Concept

# 6.2: serialized-origin, of a page that HTTP serves. No user, path or query: a browser sends none.
SERIALIZED_ORIGIN = re.compile(rb"(?P<scheme>https?)://(?P<authority>[^/?#@\s,]+)", re.IGNORECASE)


# ------------------------------------------------------------------ RFC 6455, The WebSocket Protocol

# 4.1: sixteen bytes in base64. Of the last letter only the two upper bits count.
WEBSOCKET_KEY = _bytes(r"[A-Za-z0-9+/]{21}[AQgw]==")


# ------------------------------------------------------------------ RFC 6749, OAuth 2.0

# 3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E ). No space, which parts scopes; no quote and no
# backslash, which would end the quoted string of a challenge (RFC 6750, 3). Without the comma too:
# the upstream gets the scopes joined by commas in X-User-Scopes, and `read,admin` would become two
# there.
SCOPE_TEXT = re.compile(r"[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+")

# RFC 9110, 8.8.3: an entity tag, weak or strong.
ENTITY_TAG_TEXT = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


# ------------------------------------------------------------------ RFC 3339, Date and Time on the Internet

# 5.6: date-time. `T` and `Z` in any case. Nine digits of a fraction are nanoseconds. The space that
# a note allows instead of `T` is not one: it would part the value in a query and in a log.
_time = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_DATE_TIME_TEXT = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_time}:[0-5][0-9](?:\.[0-9]{{1,9}})?(?:Z|[+-]{_time})",
    re.IGNORECASE | re.ASCII,
)
# 9999-12-31T23:59:59Z: a year has four digits. Times beyond are milliseconds that were taken for
# seconds.
LATEST = 253_402_300_799


def date_time(seconds: float) -> str:
    """Write seconds since 1970 as a date-time in UTC, whole seconds: `2026-01-01T00:00:00Z`."""
    moment = datetime.fromtimestamp(min(int(seconds), LATEST), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def read_date_time(text: str) -> float:
    """Return the seconds since 1970 of a date-time.

    Raises ValueError for what is none: a date that the calendar lacks, and a leap second (`:60`), which
    the time of a computer cannot express.
    """
    if _DATE_TIME_TEXT.fullmatch(text) is None:
        msg = "is no date-time of RFC 3339"
        raise ValueError(msg)
    return datetime.fromisoformat(text.upper()).timestamp()
