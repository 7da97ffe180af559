"""Stored answers: what fills the ports `proxy.cache.store` and `proxy.cache.behind`.

- `memory`: in the memory of one worker, bounded by bytes.
- `shelves`: behind it, what workers or machines share; the port of where that is.
- `record`: an answer as bytes, read with distrust; `leases`: which worker asks the upstream.
- `machine`: the file that the workers of one machine share; `queue`: who leaves it when it is full; `transaction`: what is
  used of LMDB. (`stores.redis.answers`: Redis.)
"""
