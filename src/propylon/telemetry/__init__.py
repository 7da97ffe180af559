"""Observe exchanges: write the access log and count for Prometheus.

- `record`: describe one exchange as a mapping.
- `lines`: write a usual exchange as a line of JSON in one go.
- `access_log`: write records as JSON, or as text for a terminal.
- `selection`: choose which records are written, and with which fields.
- `audit`: write a record for each security event: logins, revocations, registrations, reloads.
- `families`: name every metric.
- `exemplars`: the trace of a request beside the bucket that counts it.
- `metrics`: count exchanges for Prometheus; `scrape`: render all metrics, a few series at a time.
- `gauges`: measure once a second what nothing counts by itself.
- `watchdog`: watch the loop from a thread; `blocks`: judge whether code has held it; `stacks`: name that code.
- `history`: an hour of each route, in buckets; `recent`: the last refusals and failures.
- `events`: log and count changes of breakers and instances.
- `sampling`: which traces are recorded; `tracing`: follow exchanges for their traces; `spans`: describe one as spans;
  `redaction`: keep secrets out of them; `otlp`: encode spans; `export`: send them to a collector.
- `logs`: send Python's logging to the same output in the same form.
- `writer`: write lines in batches, in a thread.
- `files`: append to files that other programs rotate; `syslog`: send lines to a syslog daemon; `losses`: count what is lost.
"""
