"""LIMIT: count requests by their caller, address or another key, and refuse those that are too many. Pure.

    keys → spends (one for each limit of the route) → the store decides all of them together → headers, or 429
         → … the answer … → what it has cost is charged

- `rule`: one limit with its numbers, what a request wants to spend of it, what the store decides; the port of the stores.
- `arithmetic`: the two algorithms, GCRA and the sliding window, in whole numbers. Every store gives the same results.
- `keys`: whom a request is counted for.
- `charge`: what an answer has cost, as a header of it says.
- `fields`: the headers that tell the client what it has left.
- `stage`: the stage of a route.
- `in_flight`: requests of one key that are on their way at the same time.
"""
