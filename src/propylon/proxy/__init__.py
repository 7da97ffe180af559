"""The data plane: what a request means here, one module a stage.

    listen → match → authenticate → authorize → limit → forward → relay → observe

- `pipeline`: the whole life of a request, on one screen.
- `exchange`: one request and its answer in flight, and the port that every edge fills.
- `match`: which route, and is everyone going to read its path alike.
- `authenticate`, `authorize`: who is asking, and may they.
- `forward`: ask an instance of the service, another one if the first was not there.
- `relay`: pass the answer on.
- `observe`: one record for every exchange, whatever happened.
- `refuse`: an error as the client sees it.
"""
