"""An HTTP client: it knows HTTP, and nothing of gateways.

- `ports`: the nouns `Outgoing` and `Answer`, and the ports `Upstream`, `RequestBody` and `Sink`.
- `connection`: one socket, one exchange at a time; `reply`: its answer.
- `pool`: the kept-alive connections of one instance; decides synchronously. `pools`: the pools of a process.
- `dial`: from a name to a socket; `strays`: close connections whose name now leads elsewhere.
- `inprocess`: an ASGI app that is asked like any upstream.
- `probe`: ask again and again whether an upstream is well.
- `fetch`: one small document; `site`: a URL that the gateway itself asks.
"""
