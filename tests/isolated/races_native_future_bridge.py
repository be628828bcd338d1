"""Let the end of native futures race with what their loop does: CASE.

WAKES in the environment says how many must come back in the case lost.
"""

import asyncio
import gc
import os
import random
import sys
import time

from growth import check_growth, eventually
from native_future_bridge import compute, counters, join, select, sleep, timeout

ROUNDS = 1000
WAKES = int(os.environ.get("WAKES", 50_000))
PROC = "/proc/self"


def jitter():
    """Return a time of 0 to 2 ms."""
    return random.random() * 0.002


def some(i):
    """Return a coroutine whose result is i, soon."""
    return random.choice(
        [
            lambda: sleep(jitter(), i),
            lambda: select(sleep(jitter(), i), sleep(jitter(), i)),
            lambda: timeout(join(sleep(jitter()), compute(i % 20)), 60),
            lambda: join(compute(i % 20), asyncio.sleep(jitter())),
        ]
    )()


async def block(seconds):
    time.sleep(seconds)


def cancel():
    """Cancel the task: it has its result or is cancelled."""

    async def main():
        for i in range(ROUNDS):
            task = asyncio.ensure_future(some(i))
            await asyncio.sleep(0)
            await random.choice([asyncio.sleep, block])(jitter())
            if task.cancel():
                await asyncio.wait([task])
                assert task.cancelled() or task.exception() is None
            else:
                assert task.exception() is None

    asyncio.run(main())


def limit():
    """A limit runs out while something ends."""

    async def main():
        for i in range(ROUNDS):
            try:
                assert await timeout(sleep(jitter(), i), jitter()) == i
            except TimeoutError:
                pass

    asyncio.run(main())


def close():
    """Close the loop; let go of the task before or after that."""

    async def main(i):
        task = asyncio.ensure_future(join(sleep(jitter()), compute(i % 20)))
        await asyncio.sleep(0)
        task._log_destroy_pending = False
        return task

    for i in range(ROUNDS):
        loop = asyncio.new_event_loop()
        task = loop.run_until_complete(main(i))
        time.sleep(jitter())
        if i % 2:
            del task
        loop.close()
        if i % 3:
            loop = None
            if i % 50 == 1:
                gc.collect()


def run():
    """End asyncio.run(), which cancels the tasks that are left."""

    async def main(i):
        task = asyncio.create_task(some(i))
        await asyncio.sleep(jitter())
        return task

    for i in range(ROUNDS // 2):
        task = asyncio.run(main(i))
        assert task.cancelled() or task.exception() is None


def lost():
    """Whatever ends is heard of, even if nothing else wakes the loop."""

    async def one(count):
        for _ in range(count):
            kind = random.randrange(4)
            if kind == 0:
                assert await join(compute(0), sleep(1e-9 + jitter() / 20)) == [0, None]
            elif kind == 1:
                await join(*[sleep(1e-9 + jitter() / 10) for _ in range(2)])
            elif kind == 2:
                assert await join(*[compute(n) for n in (3, 4)]) == [2, 3]
            else:
                assert await join(compute(2), compute(random.randrange(12)))

    async def main():
        left = WAKES // 2  # each join waits for two
        while left > 0:
            count = random.choice([1, 2, 10])
            each = min(left, 100)
            await asyncio.wait_for(
                asyncio.gather(*[one(each) for _ in range(count)]), 300
            )
            left -= count * each

    asyncio.run(main())


def measure():
    """Return the numbers of mailboxes, descriptors and blocks, with nothing alive."""
    for _ in range(3):
        gc.collect()
    eventually(lambda: counters()["jobs"] == 0, "there are jobs")
    if counters()["sleepers"]:
        sys.exit("there are sleepers")
    blocks = sys.getallocatedblocks()
    mailboxes = counters()["mailboxes"]
    if not os.path.isdir(f"{PROC}/fd"):
        return mailboxes, 0, blocks
    return mailboxes, len(os.listdir(f"{PROC}/fd")), blocks


check_growth(globals()[sys.argv[1]], measure, ROUNDS // 4)
