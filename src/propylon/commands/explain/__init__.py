"""Explain a sample request without a running gateway; the words are those of the package `explain`.

- `explain`: put the explanation together.
- `dry_run`: send the request through the real pipeline, with a recorder in the place of every upstream.
"""
