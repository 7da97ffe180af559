"""Compile the configuration (`*Config`) into the immutable values that the data plane runs on.

- `routes`: the routing tables: the file's routes, the built-in endpoints.
- `access`: who may use the built-in endpoints.
- `cors`: which web pages may read an answer.
- `headers`: what a route does to headers.
- `sockets`: the rules of a route's WebSockets and other tunnels.
- `services`: a service, its instances, and the rules for when they fail.
- `authentication`: the verifier of tokens, with its keys and its introspection endpoint.
- `carriers`: where tokens are looked for, and the claims that a service gets as headers.
- `limits`: rate limits.
"""
