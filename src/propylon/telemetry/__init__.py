"""Sinks for `observe`: the access log and the metrics; and a log of what becomes of services.

- `writer`: lines to a file descriptor, in batches, off the loop.
- `record`: one exchange as a mapping.
- `access_log`: records as JSON, or as text for a terminal.
- `metrics`: counters that Prometheus reads.
- `events`: breakers that open, instances that fall ill and recover.
- `logs`: everything else that is logged, in the same form, to the same place.
"""
