"""Explain one request: which route gets it, why the others do not, each stage's verdict, what the upstream would get.

- `explain`: put the explanation together.
- `dry_run`: send the request through the real pipeline, with a recorder in the place of every upstream.
- `losers`: why each other route does not get it.
"""
