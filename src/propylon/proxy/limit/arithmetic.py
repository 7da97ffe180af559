"""Calculate GCRA and the sliding window in whole numbers: the functions that every store must equal. Pure.

GCRA (generic cell rate algorithm, ATM Forum TM 4.0, 4.4.2). A bucket that fills at the rate, because a fixed window lets
twice its number pass around its edge. All that is kept of a key is one moment: when its bucket is full again. The time
from now until then is the *debt*. A request passes if its cost fits beside the debt into a full bucket.

Sliding window. What is kept is a log: pairs of a moment and the units that were spent then. A pair counts until the
window has passed it. Above 64 units a moment is a 64th part of the window, and counts until its end has left the window.
So a caller may have to wait a 64th longer, and never gets more than the number in any window.

A store decides in three steps: calculate the debt or the log of each key now (`debt_at`, `log_at`); ask what each spend
lacks (`lack`, `lack_in`), which refuses the request if an enforced limit lacks something; spend if nothing refuses
(`spent`, `spent_in`). `decision` and `decision_in` then say what the client is told.

A clock may be set back. Then a debt counts as a full bucket's at most, and moments that lie ahead count as now: the
client waits no longer than a window. A store that finds such a state (`is_ahead`, `is_log_ahead`) keeps the corrected one,
also if it spends nothing: otherwise the client would wait until the clock has caught up.
"""

from __future__ import annotations

from propylon.proxy.limit.rule import MICROSECONDS, Decision, Rule

__all__ = [
    "Log",
    "debt_at",
    "decision",
    "decision_in",
    "end_of",
    "is_ahead",
    "is_log_ahead",
    "lack",
    "lack_in",
    "log_at",
    "spent",
    "spent_in",
]

Log = tuple[tuple[int, int], ...]
"""Of a sliding window: moments (in grains) and the units that were spent then; the oldest first."""


# GCRA


def debt_at(rule: Rule, full: int, now: int) -> int:
    """Return the debt at `now` (microseconds) of a bucket that is full again at `full` (ticks)."""
    return min(max(full - now * rule.scale, 0), rule.deepest)


def is_ahead(rule: Rule, full: int, now: int) -> bool:
    """Tell whether a bucket would be full later than any spend can make it: the clock was set back."""
    return full - now * rule.scale > rule.deepest


def lack(rule: Rule, debt: int, cost: int) -> int:
    """Return the ticks that must pass until the cost fits beside the debt; 0 or less: it fits now."""
    return debt + max(cost, 1) * rule.unit - rule.capacity


def spent(rule: Rule, debt: int, cost: int) -> int:
    """Return the debt after `cost` units were spent, or given back if it is negative."""
    return min(max(debt + cost * rule.unit, 0), rule.deepest)


def decision(rule: Rule, debt: int, lacking: int) -> Decision:
    """Return what is told of a bucket with this debt: after the spend, or unchanged if nothing was spent."""
    second = rule.scale * MICROSECONDS
    return Decision(
        allowed=lacking <= 0,
        remaining=max(rule.capacity - debt, 0) // rule.unit,
        reset=-(-debt // second),
        retry_after=0 if lacking <= 0 else -(-lacking // second),
    )


# Sliding window


def log_at(rule: Rule, log: Log, now: int) -> Log:
    """Return the log without what has left the window; moments ahead of the clock become now."""
    moment = now // rule.grain
    kept = [(at, units) for at, units in log if end_of(rule, at) > now]
    ahead = sum(units for at, units in kept if at >= moment)
    before = tuple((at, units) for at, units in kept if at < moment)
    return (*before, (moment, ahead)) if ahead else before


def is_log_ahead(rule: Rule, log: Log, now: int) -> bool:
    """Tell whether a log has moments that lie ahead: the clock was set back."""
    return bool(log) and log[-1][0] > now // rule.grain


def end_of(rule: Rule, moment: int) -> int:
    """Return the microsecond at which units of that moment have left the window."""
    return (moment + 1) * rule.grain + rule.period


def lack_in(rule: Rule, log: Log, cost: int) -> int:
    """Return the units that must leave the window until the cost fits; 0 or less: it fits now."""
    return sum(units for _, units in log) + max(cost, 1) - rule.amount


def spent_in(rule: Rule, log: Log, now: int, cost: int) -> Log:
    """Return the log (of `log_at`) after `cost` units were spent, or given back, the newest first, if it is negative."""
    if cost <= 0:
        return _given_back(log, -cost)
    moment = now // rule.grain
    if log and log[-1][0] == moment:
        return (*log[:-1], (moment, log[-1][1] + cost))
    return (*log, (moment, cost))


def _given_back(log: Log, units: int) -> Log:
    while log and units >= log[-1][1]:
        units -= log[-1][1]
        log = log[:-1]
    return (*log[:-1], (log[-1][0], log[-1][1] - units)) if log and units else log


def decision_in(rule: Rule, log: Log, now: int, lacking: int) -> Decision:
    """Return what is told of a window with this log: after the spend, or unchanged if nothing was spent."""
    total = sum(units for _, units in log)
    return Decision(
        allowed=lacking <= 0,
        remaining=max(rule.amount - total, 0),
        reset=_seconds(end_of(rule, log[-1][0]) - now) if log else 0,
        retry_after=0 if lacking <= 0 else _wait(rule, log, now, lacking),
    )


def _wait(rule: Rule, log: Log, now: int, lacking: int) -> int:
    """Return seconds until so many units have left; the whole window if there never were so many."""
    for at, units in log:
        lacking -= units
        if lacking <= 0:
            return _seconds(end_of(rule, at) - now)
    return _seconds(rule.period)


def _seconds(microseconds: int) -> int:
    return -(-microseconds // MICROSECONDS)
