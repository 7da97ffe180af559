"""The control plane: the gateway's own endpoints, on FastAPI, never in the hot path.

- `app`: the FastAPI app, which routes reach in process.
- `health`: `/health`, `/livez`, `/readyz`.
- `monitoring`: `/metrics`.
"""
