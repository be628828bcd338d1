"""bench.py: what chapter 3 costs beside the ways that Python has.

Run it: python3 run.py bench thread_woken_future
Taught in book/03_thread_woken_future.md.
"""

### What is compared
import asyncio
import concurrent.futures
import functools
import operator
import threading
import time

import model
import thread_woken_future as native

THREADS = 4
pool = concurrent.futures.ThreadPoolExecutor(THREADS)


### The ways of Python
def in_executor(x):
    return asyncio.get_running_loop().run_in_executor(pool, operator.mul, x, x)


def to_thread(x):
    return asyncio.to_thread(operator.mul, x, x)


async def burst_in_executor(count, give_up=int):
    """Let THREADS threads multiply `count` times, each time after give_up()."""

    def multiply(x):
        give_up()
        return x * x

    run = asyncio.get_running_loop().run_in_executor
    return sum(await asyncio.gather(*[run(pool, multiply, i) for i in range(count)]))


async def busy_executor():
    """Let the executor multiply, and compute until it has."""
    future = pool.submit(operator.mul, 7, 7)
    while not future.done():
        pass
    return future.result()


### One thread for each future
def at_once(function):
    """Return `function`, square or another, for a result without delay."""
    return lambda x: function(x, 0)


async def busy(function, count_threads):
    """Start the thread of function(7), and compute until it has ended."""
    before = count_threads()
    future = function(7, 0)
    while count_threads() > before:
        pass
    return await future


### Threads that complete many futures
def complete_all(loop, futures, give_up):
    """Complete the numbered `futures` on `loop`, each after a call of give_up()."""
    for x, future in futures:
        give_up()
        loop.call_soon_threadsafe(future.set_result, x * x)


async def burst(kind, count, give_up=int):
    """Let THREADS threads of Python complete `count` futures, made by kind()."""
    futures = [kind() for _ in range(count)]
    numbered = list(enumerate(futures))
    for i in range(THREADS):
        arguments = asyncio.get_running_loop(), numbered[i::THREADS], give_up
        threading.Thread(target=complete_all, args=arguments).start()
    return sum(await asyncio.gather(*futures))


def let_others_run():
    time.sleep(0)


### The variants
VARIANTS = {
    "run_in_executor": {
        "square": in_executor,
        "burst": burst_in_executor,
        "busy": busy_executor,
    },
    "to_thread": {"square": to_thread},
    "Python thread": {
        "square": at_once(model.square),
        "burst": functools.partial(burst, model.Future),
    },
    "C": {
        "square": at_once(native.square),
        "burst": functools.partial(burst, native.Future),
        "busy": functools.partial(busy, native.square, native.count_threads),
    },
    "C, subclassed": {
        "square": at_once(native.subclassed_square),
        "burst": functools.partial(burst, native.SubclassedFuture),
        "busy": functools.partial(busy, native.subclassed_square, native.count_threads),
    },
}

### The rows
CLOCK = time.perf_counter  # what threads take counts, too
REPEATED = 1
SHARED = {"gather": asyncio.gather, "let_others_run": let_others_run}

ROWS = {
    "one": "await square(7)",
    "one, Python computing": "await busy()",
    "100 at once": "await gather(*[square(7) for _ in range(100)])",
    "10,000 of 4 threads": "await burst(10_000)",
    "the same, GIL for each": "await burst(10_000, let_others_run)",
}
