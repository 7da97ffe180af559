"""CACHE: answer from what upstreams have said before, where HTTP lets a gateway do so (RFC 9111), and never across callers.

    key → stored answer → fresh: served; stale: validated; none: fetched, once for all that ask meanwhile → judged → stored

Decisions, without I/O:

- `rules`: what the operator has said about a route.
- `fields`: lists of directives, seconds, dates, entity tags.
- `asking`: what a request wants of a cache; `key`: whose its answer is, and of what.
- `judgement`: what may be stored of an answer, and how long it is fresh.
- `stored`: a stored answer: does it serve a request; the 304, the part or the head that is made of it.
- `store`: the port of what keeps answers, and the choice among those that vary.
- `behind`: the port of what workers or machines share; `deletion`: which answers are to go.
- `status`: what Cache-Status says (RFC 9211), and what is counted.

What moves:

- `stage`: the stage of a route, which stands before `forward`; `invalidation`: the same for what changes resources.
- `sharing`: look behind the worker's memory, and let one worker ask.
- `fetching`: ask the upstream, judge, store; `background`: the same without a client that waits.
- `flights`: one request asks, others wait; `filling`: the body on its way to clients and to the store.
- `serving`: the answer to one client.
"""
