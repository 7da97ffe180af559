"""LISTEN: one thin adapter per way in.

- `protocol`: the fast path, our own protocol class under uvicorn; `http1`: its `Downstream`.
- `asgi`: the portable path, the same core as an ASGI app.
- `turn`: step an exchange's coroutine without a task; both edges' `Downstream` are turns.
- `body`: a request's body while it comes in.
- `trust`: who the client really is.
- `state`: what all connections of a worker share.
- `sockets`: what a transport's socket knows and asyncio does not say.
"""
