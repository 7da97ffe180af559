"""Send requests to upstreams: an HTTP/1.1 client that knows HTTP, and nothing of gateways.

- `ports`: the values `Outgoing` and `Answer`, and the ports `Upstream`, `RequestBody` and `Sink`.
- `connection`: one socket, one exchange at a time; `reply`: the answer to that exchange.
- `sending`: does an upstream still read what it is sent.
- `pool`: the kept-alive connections of one instance; `pools`: the pools of a process, by address.
- `client_pool`: a pool whose connections belong to one client each, for the PROXY protocol.
- `tls`: contexts for TLS to upstreams, what a failed handshake says, and whether TLS was closed properly.
- `handshakes`: ask an instance for another protocol; the connection that carries it then.
- `dial`: from a host name to an open socket; `strays`: find connections whose name now resolves elsewhere.
- `inprocess`: an ASGI app in this process as an upstream.
- `probe`: health checks: ask an upstream periodically.
- `fetch`: request one small document; `lines`: read an answer without end, line by line; `kubernetes`: list and watch EndpointSlices; `docker`: list containers, hear of their events; `site`: a URL that the gateway itself requests.
"""
