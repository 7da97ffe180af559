"""Compile the configuration (`*Config`) into the immutable values that the data plane runs on.

- `table`: the routing tables of all listeners; `routes`: the file's routes; `builtin`: those of the gateway's own endpoints;
  `parts`: what they are made of besides the configuration.
- `split`: a route to several services.
- `conditions`: what a request must have to get a route; `fixed`: what routes answer by themselves.
- `detours`: what else becomes of requests: who answers where the service fails, and who gets copies.
- `redirect`: the table of the listeners that only redirect to https.
- `access`: who may use the built-in endpoints.
- `cors`: which web pages may read an answer; `preflight`: let a service answer preflights itself.
- `public`: how a path is changed for a service, and how its answers are put back under the public address.
- `rules`: what a client meets on a route, to be compared with other routes.
- `exposure`: what the API document tells of a route; `from_document`: ask for the scopes that a document names.
- `requests`: check requests against a document; `samples`: take samples of answers, to be held against it.
- `headers`: what a route does to headers; `changes`: what changes by the values of a request.
- `coding`: compress answers, unpack requests.
- `sockets`: the rules of a route's WebSockets and other tunnels.
- `selection`: what chooses an instance by what the request is.
- `services`: a service, its instances, and the rules for when they fail.
- `callees`: services as the endpoints of a team call them.
- `cluster`: services in Kubernetes, and where its API is.
- `addresses`: how instances are connected to; `health`: how they are probed.
- `authentication`: the verifier of tokens, with its keys and its introspection endpoint.
- `carriers`: where tokens are looked for, and the claims that a service gets as headers.
- `basic_auth`: the users of a route's file; `forward_auth`: another service decides.
- `limits`: rate limits; `cache`: caches; `idempotency`: keys of requests.
- `redis`: where Redis is; `traces`: what is recorded for traces, and where it goes.
"""
