"""Nest deeply: recursion_handmade_coroutine.py CASE [STACK in KiB].

Prints "done" or "RecursionError". The cases that begin with "control" do without
coroutines made by hand.
"""

import asyncio
import gc
import itertools
import sys
import threading
import warnings
from pathlib import Path

from handmade_coroutine import Echo, Ready, Relay, add, countdown

sys.path.append(str(Path(__file__).resolve().parents[1]))

import twins as twin

DEPTH = 1_000_000 if len(sys.argv) < 3 else 100_000  # slow in a small stack
FEWER = 100_000


class Given:
    """An awaitable that gives the iterator that it was given."""

    def __init__(self, iterator):
        self.iterator = iterator

    def __await__(self):
        return self.iterator


class Suspends:
    """An awaitable that yields once."""

    def __await__(self):
        yield
        return 0


def chain(depth=DEPTH, function=add, innermost=None):
    """Return add(add(add(..., x), x), x)."""
    zero = Echo(0)
    coroutine = Echo(0) if innermost is None else innermost
    for _ in range(depth):
        coroutine = function(coroutine, zero)
    return coroutine


def chain_right(depth=DEPTH):
    """Return add(x, add(x, add(x, ...)))."""
    zero = coroutine = Echo(0)
    for _ in range(depth):
        coroutine = add(zero, coroutine)
    return coroutine


def drive(coroutine):
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            assert stop.value == 0
            return


def created():
    chain()


def created_and_warned():
    chain(FEWER)


def created_right():
    chain_right()


def driven():
    # 3.11 has no stack left to say of one that it was never awaited, which takes long.
    drive(chain(DEPTH if sys.version_info >= (3, 12) else 2 * FEWER))


def driven_right():
    drive(chain_right(FEWER))


def driven_by_a_task():
    asyncio.run(chain(FEWER))


def driven_suspending():
    drive(chain(FEWER, innermost=Suspends()))


def chain_of_countdowns():
    coroutine = Echo(None)
    for _ in range(FEWER):
        coroutine = countdown(0, lambda c=coroutine: c)
    try:
        coroutine.send(None)
    except StopIteration:
        pass


def mixed_with_twins():
    zero = coroutine = Echo(0)
    for n in range(FEWER):
        coroutine = (add, twin.add)[n % 2](coroutine, zero)
    drive(coroutine)


def deepest():
    """Return a chain that is nearly as deep as one can be suspended, suspended."""
    deep, depth = None, 100
    while depth < FEWER:
        coroutine = chain(depth, innermost=Suspends())
        try:
            coroutine.send(None)
        except RecursionError:
            break
        deep, depth = coroutine, depth * 3 // 2
    return deep


def thrown_into():
    coroutine = deepest()
    try:
        coroutine.throw(KeyError)
    except KeyError:
        pass


def closed():
    deepest().close()


def suspended():
    deepest()


def suspended_then_deeper():
    """Go on with a deep chain where less of the stack is left."""
    for use in "send", "throw", "close":
        coroutine = deepest()

        def deeper(n, coroutine=coroutine, use=use):
            if n:
                return deeper(n - 1)
            if use == "close":
                return coroutine.close()
            getattr(coroutine, use)(None if use == "send" else KeyError)

        for n in 50, 200, 500, 900:
            try:
                deeper(n)
            except (RecursionError, KeyError, StopIteration, RuntimeError):
                pass
    raise RecursionError


def held_by_iterators(function=add):
    """Suspended, each held by what the next waits for: only the end is deep."""
    coroutine = function(Given(iter([1])), 1)
    coroutine.send(None)
    for _ in range(FEWER // 2):
        coroutine = function(Given(itertools.repeat(coroutine)), 1)
        coroutine.send(None)


def in_a_deep_cycle():
    coroutine = chain()
    cycle = [coroutine]
    cycle.append(cycle)
    del coroutine, cycle
    gc.collect()


def nested(function, value=0):
    for _ in range(DEPTH):
        value = function(value)
    return value


def echoes():
    nested(Echo)


def readies():
    nested(Ready)


def relays():
    nested(Relay)


def relays_awaited():
    drive(add(nested(Relay, Echo(0)), Echo(0)))


def relays_asked():
    nested(Relay, Echo(0)).__await__()


def echoes_awaited():
    async def main():
        await nested(Echo)

    try:
        main().send(None)
    except StopIteration:
        pass


def control():
    """Recurse in C."""
    iterator = iter([0])
    for _ in range(FEWER):
        iterator = map(next, [iterator])
    next(iterator)


def control_chain():
    """Recurse in coroutines of Python's own."""
    drive(chain(FEWER, twin.add))


def control_held():
    held_by_iterators(twin.add)


def main():
    try:
        globals()[sys.argv[1]]()
        ending = "done"
    except RecursionError:
        ending = "RecursionError"
    gc.collect()
    print(ending)


# All that is never awaited is not the point, unless the case says so. This is quick.
warnings.simplefilter("ignore")
if sys.argv[1] != "created_and_warned":
    warnings._warn_unawaited_coroutine = sys.unraisablehook = id
if len(sys.argv) > 2:
    threading.stack_size(int(sys.argv[2]) * 1024)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
else:
    main()
