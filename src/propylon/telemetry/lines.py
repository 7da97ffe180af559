"""Write the record of a usual exchange as a line of JSON in one go: the same bytes as its fields make, for a third of it.

Fact. Nearly all records are of exchanges that went well. Of these, most fields come from few values again and again (who
asks, where it goes), and the rest are numbers and identifiers. So what comes again is rendered once, and the line is one
format. What is not usual has `record` and its renderer.
"""

from __future__ import annotations

from functools import lru_cache

import orjson

from propylon.proxy.exchange import Exchange

__all__ = ["usual_line"]

# Renderings that are remembered. A client chooses its host and its path, so the path is not among them.
_MOST = 1024
# Microseconds as milliseconds with up to three digits behind the point, as the shortest text of the number: `.5`, not `.500`.
_FRACTIONS = tuple(b"." + ((b"%03d" % n).rstrip(b"0") or b"0") for n in range(1000))
_LINE = (
    b'{"time":"%b","level":"info","event":"request","request_id":"%b","trace_id":%b,%b,"path":%b,%b,"principal":%b,'
    b'"status":%d,"upstream_status":%b,"bytes_in":%d,"bytes_out":%d,"duration_ms":%d%b,"upstream_ms":%b,"attempts":%d,'
    b'"error":null,"flags":[]}\n'
)
_NOBODY = b'"anonymous"'
_PRIVATE = b'"private"'
_NO_ROUTE = b'"route":null,"service":null,"instance":null'


def usual_line(exchange: Exchange, time: str) -> bytes | None:
    """Return the line of an exchange at level info, without error, flags, or fields that only some have.

    None: it has no request, or a limit, a fault or a socket's end is to be told.
    """
    request, route, downstream = exchange.request, exchange.route, exchange.downstream
    if request is None or exchange.limited or exchange.faults or exchange.close_code:
        return None
    instance, body, ended = exchange.instance, downstream.body, exchange.ended
    where = _NO_ROUTE
    if route is not None:
        where = _where(route.name, route.service.name, None if instance is None else instance.id)
    elif instance is not None:
        return None
    upstream_ms = b"null"
    if exchange.attempts:
        spent = int((ended - exchange.upstream_began) * 1e6)
        upstream_ms = b"%d%b" % (spent // 1000, _FRACTIONS[spent % 1000])
    spent = int((ended - exchange.began) * 1e6)
    return _LINE % (
        time.encode(),
        exchange.request_id,
        b'"%b"' % exchange.trace_id if exchange.trace_id else b"null",
        _who(downstream.origin.client, request.method, request.host),
        orjson.dumps(request.path.decode("latin-1")),
        where,
        _principal(exchange),
        exchange.status,
        b"%d" % exchange.upstream_status if exchange.upstream_status else b"null",
        0 if body is None else body.received,
        downstream.bytes_out,
        spent // 1000,
        _FRACTIONS[spent % 1000],
        upstream_ms,
        exchange.attempts,
    )


def _principal(exchange: Exchange) -> bytes:
    if exchange.privacy.level == "strict":
        return _PRIVATE
    subject = exchange.principal.subject
    return orjson.dumps(subject) if subject else _NOBODY


@lru_cache(maxsize=_MOST)
def _who(client: str | None, method: str, host: bytes) -> bytes:
    fields = {"client_ip": client, "method": method, "host": host.decode("latin-1")}
    return orjson.dumps(fields)[1:-1]


@lru_cache(maxsize=_MOST)
def _where(route: str, service: str, instance: str | None) -> bytes:
    return orjson.dumps({"route": route, "service": service, "instance": instance})[1:-1]
