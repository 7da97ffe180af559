"""The OpenAPI documents of services: read, checked, compared, and merged with the gateway's own. No I/O.

    bytes → `read` → Document ─► `in_force`, which a route's rules ask
                        │      └► `publish` → Published ─► `merge` → bytes
                        └► `difference`, to the document before

- `document`: the nouns: a document, an operation, its security.
- `grammar`: which members the objects of OpenAPI have; `clean`: copy only these, and rename references.
- `unique`: names of which each is given once.
- `read`: read a document; `security`: which tokens its operations accept; `outline`: what its
  requests must have, and its answers always have.
- `parts`: a document as lines, and back; `child`: read one in a process of its own, for large ones.
- `difference`: what has changed between two documents, and what of it breaks clients.
- `in_force`: the documents in force, and what they say of a request.
- `exposure`: which public paths a route gives to a service's; `published`: an operation as clients see it.
- `weight`: how much work a schema makes; `checks`: compile the checks of requests.
- `publish`: what routes show of a service, with a document or without; `own`: the gateway's own endpoints.
- `merge`: one document of all of it.
"""
