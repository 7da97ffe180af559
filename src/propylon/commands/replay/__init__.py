"""Send the requests of a log through two configurations, offline, and tell which decisions differ.

- `log`: read an access log of ours, one in the combined format, or a HAR file.
- `judge`: say what a configuration decides about a request, by the dry run of `explain`.
- `compare`: group what differs, and hold it against what is expected.
- `report`: put it into words, or JSON.
"""
