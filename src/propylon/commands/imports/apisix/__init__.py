"""Read apisix.yaml, the file of APISIX in standalone mode.

- `reader`: the file as a whole, and which plugins count for which route.
- `upstreams`: upstreams become services. `routes`: which requests a route takes; `vars_`: its conditions.
- `plugins`: the table of the plugins. `traffic`, `rewriting`, `security`: what they become.
"""
