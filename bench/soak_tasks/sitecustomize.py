"""On SIGUSR1 a worker of the gateway writes down which tasks it has: nothing else tells that from outside.

soak.py puts this directory on PYTHONPATH, so Python imports the module at its start. Workers inherit the handler.
"""

import asyncio
import json
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from types import FrameType


def write_down(_number: int, _frame: FrameType | None) -> None:
    names: Counter[str] = Counter()
    for task in asyncio.all_tasks():
        names[getattr(task.get_coro(), "__qualname__", "?")] += 1
    threads = sorted(thread.name for thread in threading.enumerate())
    file = Path(os.environ["SOAK_TASKS"]) / f"{os.getpid()}.json"
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"tasks": names, "threads": threads}))
    new.replace(file)


if "SOAK_TASKS" in os.environ:
    signal.signal(signal.SIGUSR1, write_down)
