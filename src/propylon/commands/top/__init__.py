"""Show in a terminal what the gateway does, for `propylon top`: the same as the dashboard, from the same endpoints.

- `picture`: what the lines of the stream add up to, as rows of tables.
- `words`: how numbers, states and names are shown.
- `link`: read the stream, come back when it breaks, and do what the operator says.
- `screen`: the tables, the keys and the dialogs; it needs `propylon[top]`.
"""
