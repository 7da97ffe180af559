"""Put the parts together, and hold what lives while a loop runs.

- `gateway`: the façade, `Gateway`; `application`: the same as an ASGI app.
- `team`: what a team says in Python: policies, costs, stand-ins in tests.
- `components`: what exists before a loop runs and outlives reloads.
- `output`: where the logs go.
- `running`: what exists only while a loop runs; puts configurations in force; `change`: one that is not in force yet.
- `reload`: reload beside the requests; which configurations must not replace the one in force.
- `edges`: make the edges of the listeners, and set their limits.
- `docker`: routes and instances that labels of containers describe.
- `notices`: what is said at the start.
- `carry`: build the services of a new configuration from those in force.
- `membership`: the registry and DNS, joined to the services; `gossip`: the registries of all workers agree.
- `outages`: the breakers and ejections of all workers agree; `census`: ask all workers for their part of an
  answer; `answering`: give this worker's part.
- `watch`: show what the gateway does, in all workers.
- `documents`: follow the OpenAPI documents of services; `document_reader`: read a large one in a process of its own.
- `drift`: look at samples of answers, and tell where they are not what the document says.
- `api_document`: make the document of `/openapi.json`; `description`: join the three to what is running.
- `override`: what a team's tests put in the place of the real thing; `stand_ins`: ASGI apps in the place of services.
- `sharing`: what a gateway shares that another server runs: where its workers meet.
- `answers`: the stored answers of all workers, deleted together; `idempotency`: where keys of requests are kept.
- `tracing`: which traces are recorded, and what sends their spans.
- `counting`: where limits are counted.
- `verification`: the verifier of tokens in force, and the one whose keys are still being fetched.
- `guards`: what guards routes besides tokens.
- `ages`: how old what this worker knows of keys and revoked tokens is.
- `accounts`: users, refresh tokens and revocations, joined to the endpoints that work on them.
"""
