"""Explain a request: which route gets it, why the others do not, what each stage says, what the upstream gets.

`propylon explain` explains a sample request without a running gateway, and `X-Propylon-Explain` a real one. Both have
their words from here.

- `online`: tell who may ask the running gateway, and begin the trace of their request.
- `trace`: follow a request through the data plane, and tell what became of it.
- `header`: fit a trace into a header of the answer.
- `stages`: note what each stage of a route says.
- `values`: name the values that a stage goes by, and where each was written.
- `words`: say what stages and commands say alike, and hide what is secret.
- `losers`: find out why each other route does not get the request.
- `cached`: say by what the route's cache looks the answer up.
- `asked`: say what the service has said that decides about requests.
- `detours`: say what else becomes of a request: what would answer if the service failed.
- `checked`: say against what its requests are checked.
- `unread`: leave out the documents of services, which nobody has read outside of a running gateway.
"""
