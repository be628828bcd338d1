"""Count objects, references, blocks and memory over many rounds: KIND."""

import asyncio
import gc
import inspect
import sys
import sysconfig
import time
import tracemalloc
import weakref

import thread_woken_future
from thread_woken_future import count_threads

try:
    import resource
except ImportError:
    resource = None

start = getattr(thread_woken_future, sys.argv[1])
KINDS = thread_woken_future.Future, thread_woken_future.SubclassedFuture
TOO_LARGE = 2**40
HOUR = 3600


class Thing:
    """Something that a weak reference can watch."""

    def __call__(self, *args):
        pass


async def completed(thing):
    future = start(3, 0)
    future.add_done_callback(thing)
    assert await future == 9


async def failed(thing):
    future = start(TOO_LARGE, 0)
    future.add_done_callback(thing)
    try:
        await future
    except OverflowError:
        pass


async def cancelled(thing):
    future = start(3, HOUR)
    future.add_done_callback(thing)
    future.cancel(thing)


async def task_cancelled(thing):
    async def wait(thing):
        await start(3, HOUR)

    task = asyncio.create_task(wait(thing))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def dropped(thing):
    start(3, 0).add_done_callback(thing)


async def awaited_by_two(thing):
    async def wait(future, thing):
        return await future

    future = start(3, 0.0001)
    assert await asyncio.gather(*[wait(future, thing) for _ in range(2)]) == [9, 9]


async def completed_by_hand(thing):
    future = start(3, 0)
    future.set_result(thing)
    assert await future is thing


async def failed_by_hand(thing):
    future = start(3, 0)
    future.set_exception(KeyError(thing))
    try:
        await future
    except KeyError:
        pass


async def in_a_cycle(thing):
    future = start(3, 0)
    thing.future = future
    future.add_done_callback(thing)
    future.add_done_callback(lambda future: thing)
    await future


async def cycle_cancelled(thing):
    future = start(3, HOUR)
    thing.future = future
    future.add_done_callback(thing)
    future.cancel()


async def refused(thing):
    for args in (thing, 0), (3, thing), (3, -1), (3, 0, thing), (2**70, 0), ():
        try:
            start(*args)
        except (TypeError, ValueError, OverflowError):
            pass


async def methods(thing):
    future = start(3, 0)
    for _ in range(3):
        future.add_done_callback(thing)
    future.add_done_callback(print)
    repr(future)
    iter(future), next(iter(future))
    assert future.remove_done_callback(thing) == 3
    future.remove_done_callback(print)
    future.set_result(thing)
    repr(future)
    future.result(), future.exception(), future.get_loop()


async def weakly(thing):
    future = start(3, 0)
    thing.ref = weakref.ref(future, lambda ref: thing)
    await future


FUNCTIONS = filter(inspect.isfunction, list(globals().values()))
CASES = [*filter(inspect.iscoroutinefunction, FUNCTIONS)]
watched = []


def left_behind(thing):
    """Leave one in a loop that is closed."""

    async def main():
        start(3, 0.0005).add_done_callback(thing)

    asyncio.run(main())


async def main(rounds):
    for case in CASES * rounds:
        thing = Thing()
        watched.append(weakref.ref(thing))
        await case(thing)


def play(rounds):
    """Do everything `rounds` times; remember each Thing weakly."""
    asyncio.run(main(rounds))
    for _ in range(rounds):
        thing = Thing()
        watched.append(weakref.ref(thing))
        left_behind(thing)
    while count_threads():
        time.sleep(0.001)
    for _ in range(3):
        gc.collect()


def count():
    """Return the numbers that a leak would raise."""
    watched.clear()
    for _ in range(3):
        gc.collect()
    blocks = sys.getallocatedblocks()  # 0 where malloc is Python's allocator
    references = getattr(sys, "gettotalrefcount", int)()
    return len(gc.get_objects()), blocks, references, *references_to_types()


def references_to_types():
    """Return how many there are; without a GIL they cannot be counted."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return []
    return [sys.getrefcount(kind) for kind in KINDS]


def traced():
    """Return how many bytes are in use, those of C among them."""
    watched.clear()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def peak():
    """Return the most memory there was, in KiB (or bytes, on macOS)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else 1


ROUNDS = 200
play(ROUNDS)  # until the caches of the interpreter are full
memory = peak()
for _ in range(6):  # a leak shows each time, and the noise of the interpreter does not
    before = count()
    play(ROUNDS)
    alive = sum(ref() is not None for ref in watched)
    if alive > 1:  # the last one may be in a frame
        sys.exit(f"{alive} things are still alive")
    grown = [b - a for a, b in zip(before, count(), strict=True)]
    print("objects, blocks, references, those to types grew by", grown)
    if max(map(abs, grown[3:]), default=0) >= ROUNDS // 2:
        sys.exit("a type is not released once for each of its futures")
    if max(grown) < ROUNDS // 2:  # a leak in one case would be ROUNDS
        break
else:
    sys.exit("something leaks")
if peak() > memory * 1.5:
    sys.exit(f"memory grew from {memory} to {peak()}")
tracemalloc.start()
play(ROUNDS)
for _ in range(3):
    bytes_before = traced()
    play(ROUNDS)
    grown = traced() - bytes_before
    print("memory of C and Python grew by", grown, "bytes")
    if grown < 128 * ROUNDS:  # a job has more, and each case would leak one
        break
else:
    sys.exit("memory leaks")
