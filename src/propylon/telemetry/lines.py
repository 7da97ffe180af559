"""Write the record of a usual exchange as a line of JSON from parts: the same bytes as its fields make, for a part of the cost.

Fact. Nearly all records are of exchanges that went well. Of these, most fields come from few values again and again (who
asks, where it goes), and the rest are numbers and identifiers. So what comes again is rendered once, and the line is put
together in one go. What is not usual has `record` and its renderer.
"""

from __future__ import annotations

from functools import lru_cache

from orjson import dumps

from propylon.proxy.exchange import Exchange

__all__ = ["usual_line"]

# Renderings that are remembered. A client chooses its host and its path, so the path is not among them.
_MOST = 1024
# Numbers as text: formatting one costs as much as ten look-ups. Most are below a thousand.
_NUMBERS = tuple(b"%d" % number for number in range(1000))
_MANY = len(_NUMBERS)
# Microseconds as milliseconds with up to three digits behind the point, as the shortest text of the number: `.5`, not `.500`.
_FRACTIONS = tuple(b"." + ((b"%03d" % n).rstrip(b"0") or b"0") for n in range(1000))
_STATUSES = tuple(b',"status":%d,"upstream_status":' % number for number in range(1000))
# What comes behind `attempts`, of which `retries.attempts` allows ten for each of a few services.
_ENDS = tuple(b',"attempts":%d,"error":null,"flags":[]}\n' % number for number in range(100))
_NO_ROUTE = b',"route":null,"service":null,"instance":null,"principal":'
_NOBODY = b'"anonymous"'
_PRIVATE = b'"private"'


def usual_line(exchange: Exchange, time: bytes) -> bytes | None:
    """Return the line of an exchange at level info, without error, flags, or fields that only some have.

    None: it has no request, or a limit, a fault or a socket's end is to be told.
    """
    request, route, downstream = exchange.request, exchange.route, exchange.downstream
    if request is None or exchange.limited or exchange.faults or exchange.close_code:
        return None
    instance, body, path = exchange.instance, downstream.body, request.path
    where = _NO_ROUTE
    if route is not None:
        where = _where(route.name, route.service.name, None if instance is None else instance.id)
    elif instance is not None:
        return None
    private = exchange.privacy.level == "strict"
    subject = exchange.principal.subject
    ended, attempts = exchange.ended, exchange.attempts
    upstream_ms, rest = b"null", b""
    if attempts:
        spent = int((ended - exchange.upstream_began) * 1e6)
        took, rest = spent // 1000, _FRACTIONS[spent % 1000]
        upstream_ms = _NUMBERS[took] if took < _MANY else b"%d" % took
    spent = int((ended - exchange.began) * 1e6)
    took, received, sent = spent // 1000, 0 if body is None else body.received, downstream.bytes_out
    # One `join`: a format costs twice as much for each part.
    return b"".join(
        (
            b'{"time":"',
            time,
            b'","level":"info","event":"request","request_id":"',
            exchange.request_id,
            b'","trace_id":"',
            exchange.trace_id,
            _who(downstream.origin.client, request.method, request.host),
            # Without the name of an encoding `decode` takes half the time.
            dumps(path.decode() if path.isascii() else path.decode("latin-1")),
            where,
            _PRIVATE if private else dumps(subject) if subject else _NOBODY,
            _STATUSES[exchange.status],
            _NUMBERS[exchange.upstream_status] if exchange.upstream_status else b"null",
            b',"bytes_in":',
            _NUMBERS[received] if received < _MANY else b"%d" % received,
            b',"bytes_out":',
            _NUMBERS[sent] if sent < _MANY else b"%d" % sent,
            b',"duration_ms":',
            _NUMBERS[took] if took < _MANY else b"%d" % took,
            _FRACTIONS[spent % 1000],
            b',"upstream_ms":',
            upstream_ms,
            rest,
            _ENDS[attempts],
        )
    )


@lru_cache(maxsize=_MOST)
def _who(client: str | None, method: str, host: bytes) -> bytes:
    fields = {"client_ip": client, "method": method, "host": host.decode("latin-1")}
    return b'",%b,"path":' % dumps(fields)[1:-1]


@lru_cache(maxsize=_MOST)
def _where(route: str, service: str, instance: str | None) -> bytes:
    fields = dumps({"route": route, "service": service, "instance": instance})
    return b',%b,"principal":' % fields[1:-1]
