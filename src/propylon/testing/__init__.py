"""A gateway in a team's tests: upstreams in memory, and a clock that the test moves.

- `plugin`: the pytest plugin with its fixtures; all else is imported when a test asks for one.
- `gateway`: the gateway under test, as a test uses it.
- `client`: one request to it, and the answer.
- `upstream`: what stands in for a service.
- `network`: leads connections to what stands in, and looks up no name.
- `tokens`: test keys in place of the configured ones.
- `clocks`: the clock of a test, and how all of the gateway reads it.
- `loop`: an event loop on which waiting takes no time.
- `pipe`: the two ends of a connection in memory.
- `refused`: what cannot be had this way.
"""
