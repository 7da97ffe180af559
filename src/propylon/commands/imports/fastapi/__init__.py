"""Read a gateway that somebody wrote with FastAPI. The source is parsed, never imported and never run.

- `source`: constants, routes and their decorators, out of the syntax tree. `reader`: a route of ours for each of them.
"""
