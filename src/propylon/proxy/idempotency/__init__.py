"""IDEMPOTENCY: answer a request that was sent again with the first one's answer (draft-ietf-httpapi-idempotency-key-header-07).

    key → claim → ours: ask, keep the answer, answer
                → somebody has it: 409 · it is settled: the same request? → the kept answer, or 422

- `key`: read the header, name whose key it is, and take the fingerprint of a request. Pure.
- `ledger`: the port of what keeps claims and answers, and what stands in it. Pure.
- `stage`: the stage of a route, which stands before `forward`.
"""
