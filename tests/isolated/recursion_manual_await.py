"""Recurse: recursion_manual_await.py CASE [STACK in KiB]. Prints how it ended."""

import functools
import sys
import threading
import warnings

from manual_await import run

DEPTH = 100_000


async def nested_coroutines(n=DEPTH):
    return await nested_coroutines(n - 1) if n else "bottom"


async def nested_runs(n=DEPTH):
    return run(nested_runs(n - 1)) if n else "bottom"


async def wrap(awaitable):
    return await awaitable


async def bottom():
    return "bottom"


kept = []


def chain_of_coroutines():
    """Return the outermost of many coroutines, all kept.

    Where the recursion ends, the next would otherwise be deleted unstarted, at a
    depth that leaves no room for the warning.
    """
    kept.append(bottom())
    for _ in range(DEPTH):
        kept.append(wrap(kept[-1]))
    return kept[-1]


class Given:
    """An awaitable that gives the iterator that it was given."""

    def __init__(self, iterator):
        self.iterator = iterator

    def __await__(self):
        return self.iterator


def chain_of_runs():
    awaitable = Given(iter([None]))
    for _ in range(DEPTH):
        awaitable = Given(map(run, [awaitable]))
    return awaitable


class Circle:
    """An awaitable whose only step runs itself, with no Python code between."""


circle = Circle()
Circle.__await__ = staticmethod(functools.partial(map, run, [circle]))


def nested_next():
    """Recurse in C without this module: the control."""
    iterator = iter(["bottom"])
    for _ in range(DEPTH):
        iterator = map(next, [iterator])
    return next(iterator)


def plainly(coroutine):
    """Drive a coroutine that never suspends without this module: a control."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


CASES = {
    "nested_coroutines": lambda: run(nested_coroutines()),
    "nested_runs": lambda: run(nested_runs()),
    "chain_of_coroutines": lambda: run(chain_of_coroutines()),
    "chain_of_runs": lambda: run(chain_of_runs()),
    "circle": lambda: run(circle),
    "control": nested_next,
    "control_nested": lambda: plainly(nested_coroutines()),
    "control_chain_of_coroutines": lambda: plainly(chain_of_coroutines()),
}


def main():
    try:
        print(CASES[sys.argv[1]]())
    except RecursionError:
        print("RecursionError")
    for coroutine in kept:
        coroutine.close()


# Where the recursion ends, the coroutine that was to be next is never awaited.
warnings.simplefilter("ignore")
if len(sys.argv) > 2:
    threading.stack_size(int(sys.argv[2]) * 1024)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
else:
    main()
