"""Nest native futures deeply: CASE [STACK in KiB].

Prints "done" or "RecursionError". CASE is USE-NEST, the names of two functions.
"""

import asyncio
import gc
import sys
import threading
import warnings

from native_future_bridge import compute, join, select, sleep, timeout

DEPTH = 10_000
HOUR = 3600


def native(innermost, depth=DEPTH):
    """Nest natively."""
    one = innermost
    for i in range(depth):
        one = (join, select, lambda one: timeout(one, HOUR))[i % 3](one)
    return one


async def python(one):
    return await one


def mixed(innermost, depth=DEPTH):
    """Nest natively and in coroutines of Python, by turns."""
    one = innermost
    for _ in range(depth // 2):
        one = python(join(one))
    return one


def few_mixed(innermost):
    """Nest a few natively and a coroutine of Python, by turns."""
    one = innermost
    for _ in range(DEPTH // 50):
        one = python(native(one, 49))
    return one


def wide(innermost):
    """Nest deeply on both sides."""
    one = innermost
    for _ in range(DEPTH):
        one = join(sleep(HOUR), one)
    return select(one, sleep(0.001))


def plain(innermost):
    """Nest coroutines of Python, without us."""
    one = innermost
    for _ in range(DEPTH):
        one = python(one)
    return one


async def as_a_task(one):
    """Await `one` as asyncio.gather() does."""
    task = asyncio.ensure_future(one)
    try:
        return await task
    finally:
        task.cancel()


def gathered(innermost):
    """Nest tasks, without us."""
    one = innermost
    for _ in range(DEPTH // 2):
        one = as_a_task(one)
    return one


def built(nest):
    one = nest(sleep(0))
    one.close()


def unawaited(nest):
    nest(sleep(0))


def ran(nest):
    asyncio.run(python(nest(sleep(0.001))))


def failed(nest):
    try:
        asyncio.run(python(nest(compute(93))))
    except OverflowError:
        pass


async def begin(nest):
    """Return a task, when the innermost has begun."""
    begun = asyncio.Event()

    async def innermost():
        begun.set()
        await sleep(HOUR)

    task = asyncio.ensure_future(python(nest(innermost())))
    end = asyncio.ensure_future(begun.wait())
    await asyncio.wait([task, end], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        raise task.exception()
    return task


def cancelled(nest):
    async def main():
        task = await begin(nest)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())


def dropped(nest):
    """Close the loop on it, and drop it."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin(nest))
    loop.close()


def main():
    case, nest = sys.argv[1].split("-")
    try:
        globals()[case](globals()[nest])
        ending = "done"
    except RecursionError:
        ending = "RecursionError"
    gc.collect()
    print(ending)


# All that is never awaited or destroyed is not the point. This is quick.
warnings.simplefilter("ignore")
warnings._warn_unawaited_coroutine = sys.unraisablehook = id
asyncio.BaseEventLoop.call_exception_handler = lambda *args: None
if len(sys.argv) > 2:
    threading.stack_size(int(sys.argv[2]) * 1024)
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
else:
    main()
