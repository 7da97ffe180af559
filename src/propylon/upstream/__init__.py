"""The client side: knows HTTP, knows nothing of gateways.

- `exchange`: the nouns `Outgoing` and `Answer`, and the ports `RequestBody` and `Sink`.
- `connection`: one socket, one exchange at a time.
- `pool`: the kept-alive connections of one instance; decides synchronously.
- `inprocess`: an ASGI app that is asked like any upstream.
- `signal`, `ticker`, `tasks`: waiting without a future, timeouts without a timer, tasks that are kept.

Everything that can be asked has the same verb: `await upstream.exchange(outgoing) -> Answer`.
"""
