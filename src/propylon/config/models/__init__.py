"""Define what an operator may write: pydantic models, from which the reference and the JSON schema are generated.

- `schema`: the whole file; `json_schema`: the JSON schema for editors.
- `server`, `log`, `auth`, `jwt`, `cors`, `services`, `resilience`, `routes`: its sections; `route`: one route; `limits`: rate limits; `cache`: caches;
  `idempotency`: keys of requests.
- `upstream_tls`, `health`: the sections `tls` and `health` of a service.
- `match`: what a request must have besides its path; `answered`: what a route answers by itself, and whose requests it takes.
- `documented`: how requests and answers are held against a document; `timeouts`: the timeouts of a route.
- `maintenance`: what clients get while a route is under maintenance.
- `fallback`: what answers while the service of a route fails; `mirror`: who gets copies of its requests; `detours`: whether it can
  have them.
- `sticky`: how a caller stays where it was; `balance`: how an instance of a service is chosen.
- `traffic`: how requests are shared out among services.
- `headers`: what a route does to headers; `templates`: names in values, and what it does to the query; `route_names`: whether a route
  has what they name.
- `basic_auth`: the users of a route's file; `forward_auth`: another service decides.
- `coding`: which answers are compressed.
- `websocket`: the rules of a route's sockets.
- `admin`: the sections about running the gateway: `admin`, `docs`, `metrics`, `registry`.
- `public`: what services and their answers say of the public address.
- `listeners`: the entries of `server.listen`; `certificates`: the section `tls`.
- `policies`: the section `policies`.
- `traces`: the section `traces`.
- `redis`: the section `redis`; `redis_url`: read its URL.
- `discovery`: the section `discovery`, and services in Kubernetes.
- `include`: the patterns of files that are read with the first.
- `inherit`: fill in what routes take from `defaults`.
- `endpoints`: the gateway's own endpoints: paths, methods, who may call them.
- `base`: what all models share; `syntax`, `token_syntax`, `unix_socket`, `origins`, `units`, `keys`: check and convert single values;
  `patterns`: refuse the path patterns of other gateways; `foreign`: what other gateways call a key.
- `spelling`: suggest the known word nearest to a misspelt one.
"""
