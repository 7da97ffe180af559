"""Read Traefik's dynamic configuration, versions 2 and 3: files in YAML and TOML, and labels in a compose file.

- `reader`: the files as a whole, and routers in the order in which Traefik tries them.
- `labels`: the labels of a compose file, as the tree that a dynamic file is.
- `rules`: the rules of routers, taken apart. `routers`: a route for each of their alternatives.
- `services`: servers, weights, mirrors, failover.
- `middlewares`: the table of the middlewares, chains resolved. `auth`, `traffic`, `headers`: what they become.
"""
