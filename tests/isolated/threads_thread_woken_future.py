"""Let two threads use one future at once: threads_thread_woken_future.py CASE.

Nothing breaks, and one of those who want to complete it does. Worth most on a
free-threaded build with ThreadSanitizer.
"""

import asyncio
import random
import sys
import sysconfig
import threading
import time

from thread_woken_future import Future, count_threads, subclassed_square

ROUNDS = 200 if sysconfig.get_config_var("Py_GIL_DISABLED") else 50
HOUR = 3600
REFUSALS = (asyncio.CancelledError, asyncio.InvalidStateError, RuntimeError)
loop = asyncio.new_event_loop()


class Thrown(Exception):
    pass


def attempt(function, subject):
    """Return whether function(subject) did something, and was not refused."""
    try:
        return function(subject) is not False
    except (*REFUSALS, StopIteration, Thrown):
        return False


def race(subjects, functions):
    """Let two threads call the functions with each subject, in any order.

    Return, for each subject, whatever attempt() returned in the two threads.
    """
    at = [-1, -1]
    outcomes = [[] for _ in subjects]

    def run(me):
        for i, subject in enumerate(subjects):
            at[me] = i
            while at[not me] < i:
                pass
            for function in random.sample(functions, len(functions)):
                outcomes[i].append((function, attempt(function, subject)))

    threads = [threading.Thread(target=run, args=[me]) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def cancel(future):
    return future.cancel("why")


def complete(future):
    future.set_result([1])


# Nobody sets an exception: when two threads raise the same one, Python itself has a
# race for its traceback.
METHODS = [
    cancel,
    complete,
    lambda future: future.add_done_callback(print),
    lambda future: future.add_done_callback(repr),
    lambda future: future.remove_done_callback(print),
    lambda future: setattr(future, "_asyncio_future_blocking", False),
    lambda future: future._asyncio_future_blocking,
    lambda future: future._cancel_message,
    lambda future: future._make_cancelled_error(),
    lambda future: next(iter(future)),
    Future.cancelled,
    Future.done,
    Future.exception,
    Future.get_loop,
    Future.result,
    repr,
]


def methods():
    """Exactly one of four completes the future, in the midst of all else."""
    futures = [Future(loop=loop) for _ in range(ROUNDS)]
    for outcome in race(futures, METHODS):
        ended = [done for function, done in outcome if function in (cancel, complete)]
        assert sum(ended) == 1, ended


DRIVES = [
    next,
    lambda iterator: iterator.send(None),
    lambda iterator: iterator.throw(Thrown()),
    lambda iterator: iterator.close(),
]


def iterator():
    """Drive one iterator, whose future only it has."""
    futures = [Future(loop=loop) for _ in range(ROUNDS)]
    for future in futures[::2]:
        future.set_result(1)
    iterators = [*map(iter, futures)]
    del future, futures
    race(iterators, DRIVES)


def cancelled():
    """Two cancel what a thread works for; the work ends once."""

    async def begin():
        return [subclassed_square(3, HOUR) for _ in range(ROUNDS)]

    futures = loop.run_until_complete(begin())
    race(futures, [cancel])
    assert all(future.cancelled() for future in futures)
    while count_threads():
        time.sleep(0.001)


sys.setswitchinterval(1e-5)
{case.__name__: case for case in (methods, iterator, cancelled)}[sys.argv[1]]()
loop.close()
print("done")
