"""Judge request heads as the strictest upstream would. Pure."""

import re

_LINE = re.compile(rb"[A-Z][A-Z-]{0,31} /[\x21\x22\x24-\x7e]* HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9a-f:]+\](:[0-9]{1,5})?")
# Only once: two of them, and two upstreams may each believe another one.
_SINGLE = {
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"x-request-id",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"traceparent",
}
# Never: they belong to one connection, or to nobody.
_NEVER = {
    b"te",
    b"trailer",
    b"keep-alive",
    b"upgrade",
    b"proxy-connection",
    b"proxy-authorization",
    b"http2-settings",
}
# How a gateway offers another protocol: in these two lines, side by side.
_OFFER = re.compile(rb"\r\nConnection: Upgrade\r\nUpgrade: [a-z0-9/.-]+(?=\r\n)")
# Once from a gateway that knows who is asking, never from anybody else.
_IDENTITY = {b"x-user-id", b"x-user-email", b"x-user-roles", b"x-user-scopes"}
_SENSITIVE = (
    _SINGLE | _NEVER | _IDENTITY | {b"connection", b"forwarded", b"x-real-ip", b"authorization"}
)


def faults_in_head(head: bytes, *, identified: bool = False, upgrades: bool = False) -> list[str]:
    """Say what in a request head could be read in two ways, or should never have been sent.

    `upgrades`: an offer of another protocol may come, in one form.
    """
    single, never = (_SINGLE | _IDENTITY, _NEVER) if identified else (_SINGLE, _NEVER | _IDENTITY)
    if upgrades:
        head = _OFFER.sub(b"", head, 1)
    line, *lines = head[:-4].split(b"\r\n")
    faults = [] if _LINE.fullmatch(line) else [f"request line {line!r}"]
    seen: dict[bytes, list[bytes]] = {}
    for text in lines:
        matched = _FIELD.fullmatch(text)
        if matched is None:
            faults.append(f"header line {text!r}")
            continue
        name = matched[1].lower()
        seen.setdefault(name, []).append(matched[2].strip())
        if b"_" in name and name.replace(b"_", b"-") in _SENSITIVE:
            faults.append(f"underscore {name!r}")
    faults += [f"{name!r} twice" for name in single if len(seen.get(name, [])) > 1]
    faults += [f"{name!r} forwarded" for name in never & set(seen)]
    return faults + _framing_faults(seen)


def _framing_faults(seen: dict[bytes, list[bytes]]) -> list[str]:
    faults = []
    lengths, codings = seen.get(b"content-length"), seen.get(b"transfer-encoding")
    if lengths and codings:
        faults.append("Content-Length and Transfer-Encoding")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        faults.append(f"Content-Length {lengths[0]!r}")
    if codings and codings[0] != b"chunked":
        faults.append(f"Transfer-Encoding {codings[0]!r}")
    hosts = seen.get(b"host", [])
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        faults.append(f"Host {hosts!r}")
    faults += [
        f"Connection {value!r}"
        for value in seen.get(b"connection", ())
        if value.lower() not in {b"close", b"keep-alive"}
    ]
    return faults
