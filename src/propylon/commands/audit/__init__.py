"""Audit a configuration by numbered rules, and by what a running gateway has measured.

- `audit`: put the findings of all rules together.
- `catalogue`: all rules with their ids.
- `wide`: find what lets in more than was probably meant.
- `observed`: hold the configuration against traffic; `timeouts`: its timeouts against real durations; `judging`: what both are given, and return.
- `scrape`: read what `/metrics` says; `source`: get its text from a file, a URL or the gateway of this machine.
- `report`: a report as text and as JSON; `sarif`: as SARIF.
"""
