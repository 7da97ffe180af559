"""Read Kong's declarative configuration: decK and DB-less, `_format_version` 1.1 to 3.0.

- `reader`: the file as a whole, and which plugins count for which route.
- `names`: texts of the format: references, decK's variables, places.
- `services`: services with their upstreams and targets.
- `routes`: routes, their paths, hosts and order.
- `plugins`: the table of the plugins. `traffic`, `transforms`, `security`: what they become.
"""
