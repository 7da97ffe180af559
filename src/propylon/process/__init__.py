"""The process: sockets, signals, workers and the stop. Only `propylon run` and `propylon demo` own a process.

- `run`: bind first, then one worker here or several under a supervisor.
- `server`: one worker: uvicorn's loop, our listeners, our signals and our stop.
- `sockets`: open the listeners' sockets; `inherited`: take over those of systemd or of another parent.
- `holder`: say which process listens on a port that is wanted.
- `certificates`: the TLS contexts, certificates by name, and their renewal.
- `accept`: accept connections on all listeners; `preface`: the PROXY header in front of one.
- `rehearse`: try what a start would do with them, for `propylon check`.
- `greeting`: the lines that say where the gateway listens, and what it found.
- `console`: standard error, in the format of the log.
- `supervisor`: fork workers, replace those that die, pass signals on.
- `files`: raise the limit of open files.
- `shared`: what the workers share, made before they are forked.
- `hangup`: remember a SIGHUP that comes before a loop can hear it.
- `watch`: notice that the configuration file has changed.
- `last_good`: the last configuration in force, where a replacement worker finds it.
"""
