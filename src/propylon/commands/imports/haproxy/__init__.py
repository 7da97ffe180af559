"""Read haproxy.cfg: frontends, backends, listens and their rules.

- `syntax`: sections and lines. `reader`: the files as a whole, and the routes of a frontend.
- `conditions`: ACLs, and what `if` and `unless` ask for.
- `backends`: services, their servers, checks and cookies. `rules`: http-request, http-response and redirects.
"""
