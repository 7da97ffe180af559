"""Model a service and its instances: which instance is asked, how often, and when none is.

- `service`, `instance`: the nouns.
- `fleet`: the instances of one service, and which of them may be asked now (health, ejection).
- `room`: how many requests an instance may have in flight, and the queue of the others.
- `warmup`: the growing weight of an instance that came.
- `usable`: the instances that may be asked, by priority.
- `balance`: choose one of them: round robin, random, least connections; `hashing`: by a key.
- `breaker`: the circuit breaker of a service; `circuit`: its rules and states; `window`: count the events of the last seconds; `outcome`: what the end of an
  exchange says about its service.
- `retry`: whether and when to try again; the retry budget; `hedge`: whether to send a second request beside the first.
- `concurrency`: how many requests a service can work on at once.
- `health`: active health checks.
- `discovery`: instances that follow a DNS name, or a service in Kubernetes; `cluster`: list and watch it; `slices`: read its EndpointSlices;
  `containers`: follow the containers of a Docker Engine.
- `registry`: instances that register themselves; `registration`: what a registration says;
  `admission`: which hosts may register.
"""
