"""LISTEN: one thin adapter per way in.

- `protocol`: the fast path, our own protocol class under uvicorn.
- `asgi`: the portable path, the same core as an ASGI app.
- `turn`: steps an exchange's coroutine; both edges' `Downstream` are turns.
- `body`: a request's body while it comes in.
- `trust`: who the client really is.
- `server`, `supervisor`: sockets, workers, signals, drain.
"""
