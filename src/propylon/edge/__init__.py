"""LISTEN: accept a client's request and send the answer; one adapter for each way in.

- `protocol`: the fast edge, an `asyncio.Protocol` under uvicorn; `http1`: its `Downstream`.
- `crowd`: how many connections clients may have.
- `linger`: how that edge closes while the client is still sending.
- `asgi`: the portable edge, the same pipeline as an ASGI app; `asgi_request`: read a scope as a request; `asgi_server`: what is known
  of the server that runs it.
- `tls`: TLS between the socket and that edge.
- `websocket`: what the fast edge's protocol leaves a connection to; `splice`: the two ends of such a tunnel.
- `asgi_websocket`: the same on the portable edge, message by message.
- `open_sockets`: when an open socket has to end.
- `turn`: step an exchange's coroutine without a task; what both edges' `Downstream` must count.
- `body`: a request's body while it comes in.
- `arrival`: who is at the other end of a connection; `client_certificate`: the certificate that the client has shown.
- `trust`: the client's address behind trusted proxies.
- `state`: what all client connections of a worker share.
- `sockets`: a reset.
"""
