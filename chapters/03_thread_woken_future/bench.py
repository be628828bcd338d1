"""bench.py: what chapter 3 costs beside the ways that Python has.

Run it: python3 run.py bench thread_woken_future
Taught in book/03_thread_woken_future.md.
"""

### What is compared
import asyncio
import operator
import time

import model
import thread_woken_future


### The ways of Python
def in_executor(x):
    return asyncio.get_running_loop().run_in_executor(None, operator.mul, x, x)


def to_thread(x):
    return asyncio.to_thread(operator.mul, x, x)


### The ways of the chapter
def at_once(function):
    """Return `function`, square or another, for a result without delay."""
    return lambda x: function(x, 0)


VARIANTS = {
    "run_in_executor": {"square": in_executor},
    "to_thread": {"square": to_thread},
    "Python thread": {"square": at_once(model.square)},
    "C": {
        "square": at_once(thread_woken_future.square),
        "Future": thread_woken_future.Future,
    },
    "C, subclassed": {
        "square": at_once(thread_woken_future.subclassed_square),
        "Future": thread_woken_future.SubclassedFuture,
    },
}

### The rows
CLOCK = time.perf_counter  # what threads take counts, too
SHARED = {"gather": asyncio.gather}

ROWS = {
    "one": "await square(7)",
    "100 at once": "await gather(*[square(7) for _ in range(100)])",
}
