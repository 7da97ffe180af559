"""Translate the configuration of another gateway into a propylon.yaml, with a report line by line.

A reader of a format turns files into a draft; it never writes YAML. The writer turns the draft into YAML with comments;
it knows no format. Between them every key is held against this version's own models, so that a reader may use a key that
is not built yet: it becomes "not translated" by itself. What protected a route and cannot be translated closes the route.

A reader is a function `read(sources: list[Source], draft: Draft) -> None` in a package of its own, entered in `formats`.

- It opens each source: `tree.parse(source)` for YAML, JSON and TOML gives an `Item`, or it works on `source.text`.
  Nothing else is read: no include is followed, no network is asked, nothing is imported.
- Each thing that the file says has an `At`: its place (file and line) and its name in the words of the format. An `Item`
  has one, `item.at`; other readers make theirs with `source.at(line, "location /api")`.
- `draft.service(name, at)` and `draft.route(path, at)` return a part. `part.set("timeouts.connect", "5s", at)` translates
  one key; `difference="…"` says what is not the same; `protects=True` closes the route if the key cannot be written.
  `part.lost(at, why, todo, protects=…)` says that something is not translated. `route.close(at, why, todo)` closes by hand.
  `draft.section("server.max_body", …)` sets a key outside of services and routes.
- A route that the original left open must be said to be open, by `route.open()`, when all of it was read. What is
  forgotten stays at the gateway's default, `auth: required`.
- Keys of an `Item` that nobody took are reported by `draft.leftovers(item, route)`, and close the route.
- `patterns.from_regex` turns a regular expression of a path into a path; set `route.wide` and `route.glued` from what it
  found. Where it finds none, the route is written at `patterns.literal_prefix`, and closed.

The modules:

- `report`: what was found, line by line, as text and as JSON, and the exit status.
- `source`: the bounded reading of files; `tree`: YAML, JSON and TOML with the line of each value.
- `known`: which keys and values this version takes.
- `draft`: the neutral model: services, routes, sections. `parts`: a service, and a route.
- `patterns`: paths out of regular expressions. `rates`: rates and durations in our units.
- `target`: what is done to a path, as one rewrite. `networks`: networks as propylon takes them.
- `checks`: checks of instances as Kong and APISIX write them.
- `overlap`: where our table decides otherwise than the original's, and protects less. A reader of a format whose first
  route wins calls `first_wins(draft)` at its end; `review(draft)` is called for all.
- `writing`: the YAML text with its comments; `scalars`: how single values are written.
- `settle`: hold the text against our own check, and close what it refuses.
- `formats`: the table of the readers; `command`: the whole command.

The readers: `kong`, `krakend`, `apisix`, `spring`, `traefik`, `nginx`, `haproxy`, `fastapi`.
"""
