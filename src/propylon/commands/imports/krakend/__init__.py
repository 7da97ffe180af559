"""Read krakend.json, version 3 of its format, written as JSON or YAML.

- `reader`: the file as a whole; `root`: what stands outside of endpoints.
- `endpoints`: an endpoint and its backend. `backends`: the services.
- `validator`: tokens. `limits`: rates.
"""
