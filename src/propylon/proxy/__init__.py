"""The data plane: what a request means here, one module a stage, in order.

    listen → cors (preflight) → match → clients → privacy → authenticate → authorize → policies → limit → forward → relay → observe

- `pipeline`: the whole life of a request, on one screen.
- `exchange`: one request and its answer in flight; the port that every edge fills, and what observes exchanges.
- `trace`: the trace that the request belongs to.
- `cors`: which web pages may read an answer; preflights.
- `match`: which route, and is everyone going to read its path alike; `tree`: routes by host and segment; `leaf`: the routes of one place;
  `conditions`: what a request must have to get one; `route`: one compiled route;
  `rewrite`: the path that its service gets; `split`: which of several services gets the request; `changes`: what else changes by a request's values; `template`: texts with names in them;
  `values`: what the names stand for.
- `privacy`: what the client wants kept of its request.
- `authenticate`, `authorize`: who is asking, and may they, from there; `principal`: who that is; `challenge`: what would let them in.
- `check`: does a request fit the OpenAPI document of its service.
- `limit`: how often may they.
- `forward_auth`: have another service decide about a request.
- `cache`: answer from what upstreams have said before.
- `idempotency`: answer a request that was sent again with the first one's answer; `unattended`: exchanges without a client.
- `coding`: compress answers, unpack requests.
- `upgrade`: take up the offer of another protocol: check the handshake and its Origin.
- `forward`: ask an instance of the service, another one if the first failed; `outgoing`: what it is sent;
  `attempts`: what was tried, and what could be; `hedge`: race two requests for one answer; `settling`: tell fleet and breaker how it went;
  `select`: by what the request is an instance is chosen, where that matters; `sticky`: a caller stays where it is;
  `queue`: wait until one has room.
- `fallback`: answer in place of a service that has failed; `mirror`: send a copy to another one, whose answer nobody gets.
- `call`: ask a service on behalf of an endpoint of the gateway's app, by the same `forward` and `relay`.
- `relay`: pass the answer on; `public`: put the public address into it; `site`: where it came from; `redirect`: answer with the same URL with https, on
  listeners that do nothing else.
- `fixed`: answer without a service: fixed answers, redirects.
- `maintenance`: answer in place of a service that is under maintenance.
- `refuse`: an error as the client sees it. `counts`: what stages count in.
"""
