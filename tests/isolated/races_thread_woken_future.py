"""Let the end of a future race with its thread: KIND CASE."""

import asyncio
import gc
import os
import random
import sys
import time

import thread_woken_future
from growth import check_growth, eventually
from thread_woken_future import count_threads

start = getattr(thread_woken_future, sys.argv[1])
ROUNDS = 1000
PROC = "/proc/self"


def jitter():
    """Return a time of 0 to 2 ms."""
    return random.random() * 0.002


def cancel():
    """Cancel on the loop; each future has its result or is cancelled."""
    ends = []

    async def main():
        for i in range(ROUNDS):
            future = start(i, jitter())
            wait = random.choice([asyncio.sleep, block])
            await wait(jitter())
            if future.cancel():
                assert future.cancelled()
            else:
                assert future.result() == i * i
            ends.append(future.cancelled())

    asyncio.run(main())
    return ends


async def block(seconds):
    time.sleep(seconds)


def awaiting():
    """Cancel the task that awaits; a timeout is that, too."""

    async def one(i):
        try:
            return await asyncio.wait_for(start(i, jitter()), jitter())
        except TimeoutError:
            return None

    async def main():
        for i in range(0, ROUNDS, 20):
            numbers = range(i, i + 20)
            for number, result in zip(
                numbers, await asyncio.gather(*map(one, numbers)), strict=True
            ):
                assert result in (None, number * number)

    asyncio.run(main())


def close():
    """Close the loop."""

    async def main(i):
        return start(i, jitter())

    for i in range(ROUNDS):
        loop = asyncio.new_event_loop()
        future = loop.run_until_complete(main(i))
        assert not future.done() or future.result() == i * i
        time.sleep(jitter())
        loop.close()
        if i % 2:
            future = None  # the thread may have the last reference
            time.sleep(jitter() / 10)


def run():
    """End asyncio.run(), which cancels the tasks that are left."""

    async def wait(i):
        assert await start(i, jitter()) == i * i

    async def main(i):
        task = asyncio.create_task(wait(i))
        await asyncio.sleep(jitter())
        return task

    for i in range(ROUNDS // 2):
        task = asyncio.run(main(i))
        assert task.cancelled() or task.result() is None


def measure():
    """Return the numbers of threads, descriptors and blocks, with nothing alive."""
    eventually(lambda: count_threads() == 0, "threads are alive")
    for _ in range(3):
        gc.collect()
    blocks = sys.getallocatedblocks()
    if not os.path.isdir(f"{PROC}/task"):
        return 1, 0, blocks
    eventually(lambda: len(os.listdir(f"{PROC}/task")) == 1, "the system has threads")
    return 1, len(os.listdir(f"{PROC}/fd")), blocks


check_growth(globals()[sys.argv[2]], measure, ROUNDS // 4)
