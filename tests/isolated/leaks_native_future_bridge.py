"""Count objects, references, blocks and memory of C over many rounds."""

import asyncio
import ctypes
import gc
import inspect
import os
import sys
import time
import warnings
import weakref

from native_future_bridge import compute, counters, join, select, sleep, timeout

HOUR = 3600
PROC = "/proc/self"
warnings.simplefilter("ignore", RuntimeWarning)  # that something was never awaited


class Thing:
    """Something that a weak reference can watch."""


class Failure(Exception):
    pass


async def fails(thing):
    await asyncio.sleep(0)
    raise Failure(thing)


async def gives(thing):
    await asyncio.sleep(0)
    return thing


async def waits(thing):
    await asyncio.sleep(HOUR)


async def hold(one):
    return await one


async def stubborn(thing):
    try:
        await asyncio.sleep(HOUR)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        return thing


def kinds(thing):
    """Return coroutines that do not end soon."""
    return [
        sleep(HOUR, thing),
        compute(92),
        join(sleep(HOUR, thing), compute(92), waits(thing)),
        select(sleep(HOUR, thing), waits(thing), compute(92)),
        timeout(join(sleep(HOUR, thing), stubborn(thing)), HOUR),
        join(select(timeout(compute(92), HOUR), sleep(HOUR, thing)), waits(thing)),
    ]


async def results(thing):
    assert await sleep(0, thing) is thing
    assert await sleep(0.0001, thing) is thing
    assert await compute(20) == 6765
    assert await join(sleep(0, thing), gives(thing), compute(50 % 7)) == [
        thing,
        thing,
        1,
    ]
    assert await select(waits(thing), gives(thing), sleep(HOUR, thing)) is thing
    assert await timeout(join(gives(thing), sleep(0, thing)), HOUR) == [thing, thing]


async def failures(thing):
    for one in (
        join(fails(thing), sleep(HOUR, thing), waits(thing), stubborn(thing)),
        select(fails(thing), sleep(HOUR, thing)),
        timeout(fails(thing), HOUR),
        compute(93),
        timeout(join(sleep(HOUR, thing), compute(92)), 0.0001),
        timeout(waits(thing), 0),
    ):
        try:
            await one
        except (Failure, OverflowError, TimeoutError):
            continue
        raise AssertionError(one)


class Broken(asyncio.Future):
    """What goes wrong with it does so in our code."""

    def done(self):
        raise Failure(self)


async def broken(thing):
    one = Broken()
    one.thing = thing
    for native in join(one, sleep(HOUR, thing)), select(one, waits(thing)):
        asyncio.get_running_loop().call_soon(one.set_result, None)
        try:
            await native
        except Failure:
            one = Broken()
            continue
        raise AssertionError(native)


async def cancelled(thing):
    """Cancel after so many turns of the loop."""
    for turns in range(4):
        tasks = [*map(asyncio.ensure_future, kinds(thing))]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def closed(thing):
    """Close at the first suspension."""
    for one in kinds(thing):
        one.send(None)
        one.close()


async def thrown(thing):
    for one in kinds(thing):
        one.send(None)
        try:
            one.throw(Failure(thing))
        except Failure:
            pass
        one.close()
        del one


async def dropped(thing):
    for one in kinds(thing):
        one.send(None)


async def unawaited(thing):
    kinds(thing)


async def unawaited_closed(thing):
    for one in kinds(thing):
        one.close()


async def refused(thing):
    for call, *args in (
        (sleep, thing),
        (sleep, -1, thing),
        (compute, thing),
        (compute, -1),
        (join,),
        (join, gives(thing), thing, sleep(1, thing)),
        (select, sleep(1, thing), 5),
        (timeout, waits(thing), -1),
        (timeout, thing, 1),
    ):
        try:
            call(*args)
        except (TypeError, ValueError):
            continue
        raise AssertionError(call)


async def refused_awaited(thing):
    begun = sleep(HOUR, thing)
    begun.send(None)
    ended = sleep(0, thing)
    await ended
    for one in begun, ended:
        try:
            join(gives(thing), one)
        except RuntimeError:
            continue
        raise AssertionError(one)


async def in_a_cycle(thing):
    one = join(sleep(HOUR, thing), waits(thing))
    thing.one = one
    one.send(None)
    other = sleep(HOUR, thing)
    thing.other = other


FUNCTIONS = filter(inspect.isfunction, list(globals().values()))
CASES = [*filter(inspect.iscoroutinefunction, FUNCTIONS)][5:]
watched = []


def quietly(loop, context):
    """Nobody need hear of what was destroyed: that is what we do here."""


def left_behind(thing):
    """Leave them in a loop that is closed, tasks and all."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(quietly)

    async def main():
        natives = sleep(HOUR, thing), join(sleep(HOUR, thing), compute(92))
        for one in natives:
            asyncio.ensure_future(timeout(one, HOUR))._log_destroy_pending = False
        # This one holds nothing that the garbage collector would look for.
        asyncio.ensure_future(hold(sleep(HOUR)))._log_destroy_pending = False
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()


def left_to_run(thing):
    """Leave them to asyncio.run(), which cancels the tasks."""

    async def main():
        tasks = [*map(asyncio.ensure_future, kinds(thing))]
        await asyncio.sleep(0)
        return len(tasks)

    asyncio.run(main())


async def main(rounds):
    asyncio.get_running_loop().set_exception_handler(quietly)
    for case in CASES * rounds:
        thing = Thing()
        watched.append(weakref.ref(thing))
        await case(thing)


def play(rounds):
    """Do everything `rounds` times; remember each Thing weakly."""
    asyncio.run(main(rounds))
    for _ in range(rounds):
        for case in left_behind, left_to_run:
            thing = Thing()
            watched.append(weakref.ref(thing))
            case(thing)
    for _ in range(3):
        gc.collect()
    for _ in range(6000):
        if counters()["jobs"] == 0:
            break
        time.sleep(0.01)
    left = counters()
    if left["sleepers"] or left["jobs"] or left["mailboxes"]:
        sys.exit(f"something is left: {left}")


class Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks "
        "uordblks fordblks keepcost".split()
    ]


def heap():
    """Return how many bytes of the heap of C are in use, or 0 if nobody knows."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return 0
    if os.environ.get("LD_PRELOAD") or hasattr(sys, "_is_gil_enabled"):
        return 0  # Python itself may have its objects there
    mallinfo2.restype = Mallinfo2
    info = mallinfo2()
    return info.uordblks + info.hblkhd


def count():
    """Return the numbers that a leak would raise."""
    watched.clear()
    for _ in range(3):
        gc.collect()
    threads = descriptors = 0
    if os.path.isdir(f"{PROC}/task"):
        threads = len(os.listdir(f"{PROC}/task"))
        descriptors = len(os.listdir(f"{PROC}/fd"))
    references = getattr(sys, "gettotalrefcount", int)()
    blocks = sys.getallocatedblocks()  # 0 where malloc is Python's allocator
    return threads, descriptors, len(gc.get_objects()), blocks, references, heap()


ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
play(ROUNDS)  # until the caches of the interpreter are full
for _ in range(10):  # a leak shows each time, and the noise of the interpreter does not
    before = count()
    play(ROUNDS)
    alive = sum(ref() is not None for ref in watched)
    if alive > 1:  # the last one may be in a frame
        sys.exit(f"{alive} things are still alive")
    grown = [b - a for a, b in zip(before, count(), strict=True)]
    print("threads, descriptors, objects, blocks, references, bytes grew by", grown)
    if (
        max(grown[:2]) <= 0  # of both, a round must not leave any
        and max(grown[2:5]) < ROUNDS * 3 // 4  # a leak in one case would be ROUNDS
        and grown[5] < 32 * ROUNDS  # no block of C is smaller
    ):
        break
else:
    sys.exit("something leaks")
