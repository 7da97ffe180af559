"""Raise the limit of open files, because each request in flight needs two sockets."""

from __future__ import annotations

import resource

__all__ = ["raise_file_limit"]


def raise_file_limit() -> str:
    """Raise the soft limit of open files to the hard one; return a line for the operator, with both numbers.

    The soft limit is 1024 on most systems, for the sake of programs that use select(2). nginx (`worker_rlimit_nofile`),
    HAProxy and Go's runtime raise theirs, too. Only a process of the gateway's own may do this.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return f"open files: {_shown(soft)}, which is the hard limit"
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS: the hard limit may be more than the kernel grants
        return f"open files: {_shown(soft)}; the hard limit, {_shown(hard)}, is not granted"
    return f"open files: {_shown(hard)}, raised from {_shown(soft)} to the hard limit"


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
