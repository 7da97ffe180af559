"""Turn the path and the parameters of an endpoint's call into what is sent. Pure.

Facts. Endpoints put what their clients send into paths: `/orders/{order_id}`. A value such as `../admin` would lead
elsewhere on the service than the endpoint's author meant, with the gateway's word for who is asking.

Rules.

1. Characters that do not belong into a path or query are percent-encoded, line ends among them.
2. Dot segments and control bytes are refused, plain or encoded, as `match` refuses them in the paths of clients.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, urlencode

from propylon.errors import InvalidRequest

__all__ = ["Params", "target_of"]

Params = Mapping[str, object] | Iterable[tuple[str, object]]

# RFC 3986, 3.3 and 3.4: what may stand in a path and in a query as it is.
_PATH = "/!$&'()*+,;=:@-._~%"
_QUERY = _PATH + "?"
_BARE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
# Tomcat drops what follows `;`, and Windows takes `\` for `/`.
_SEPARATORS = re.compile(r"[/\\]")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def target_of(path: str, params: Params | None = None) -> tuple[bytes, bytes]:
    """Return the path and the query as they are sent; the query includes its `?`, or is empty.

    Raises ValueError for a whole URL, and InvalidRequest for a path that could lead elsewhere, or that is no Unicode.
    """
    try:
        return _target(path, params)
    except UnicodeEncodeError as error:
        # A client's JSON may hold half a surrogate pair.
        msg = "The path and the parameters of a call must be Unicode"
        raise InvalidRequest(msg) from error


def _target(path: str, params: Params | None) -> tuple[bytes, bytes]:
    written, mark, query = path.partition("?")
    if not written.startswith("/"):
        if "://" in written:
            msg = f"{path!r:.80} is a URL: write the path, which is relative to the service's url"
            raise ValueError(msg)
        written = "/" + written
    _check(written)
    if params is not None:
        query = "&".join(filter(None, (query, urlencode([*_pairs(params)]))))
    sent = ("?" + _quoted(query, _QUERY)) if query or mark else ""
    return _quoted(written, _PATH).encode("ascii"), sent.encode("ascii")


def _quoted(text: str, safe: str) -> str:
    return quote(_BARE_PERCENT.sub("%25", text), safe=safe)


def _check(path: str) -> None:
    plain = unquote(path)
    segments = [part.partition(";")[0] for part in _SEPARATORS.split(plain)]
    if _CONTROL.search(plain) or not {".", ".."}.isdisjoint(segments):
        msg = "The path of a call must not have a dot segment or a control character"
        raise InvalidRequest(msg)


def _pairs(params: Params) -> Iterable[tuple[str, str]]:
    items = params.items() if isinstance(params, Mapping) else params
    for name, value in items:
        several = value if isinstance(value, list | tuple | set | frozenset) else (value,)
        for one in several:
            yield name, _text(one)


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
