"""Explain a request: which route gets it, why the others do not, what each stage says, what the upstream would get.

- `explain`: put the explanation together.
- `dry_run`: send the request through the real pipeline, with a recorder in the place of every upstream.
- `cached`: say by what the route's cache looks the answer up.
- `checked`: say against what its requests are checked.
- `unread`: leave out the documents of services, which nobody has read here.
- `losers`: find out why each other route does not get the request.
"""
