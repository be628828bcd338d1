"""Let the system refuse threads, for lack of memory: KIND."""

import asyncio
import gc
import itertools
import os
import statistics
import sys
import time

import thread_woken_future
from thread_woken_future import count_threads

try:
    import resource

    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
except (ImportError, OSError):
    print("this system has no limit that we could set")
    raise SystemExit(77) from None

start = getattr(thread_woken_future, sys.argv[1])
before = resource.getrlimit(resource.RLIMIT_AS)
ROOM = 8 << 20


def fill(futures):
    """Begin futures until there was no room for a thread 20 times; return why."""
    errors = []
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    try:
        while len(errors) < 20 and len(futures) < 10000:
            try:
                futures.append(start(3, 3600))
            except (RuntimeError, MemoryError) as error:
                errors.append(repr(error))
        return errors
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


async def main():
    soon = [start(i, 0.05) for i in range(5)]
    for _ in range(20):
        futures = []
        assert fill(futures) == ["""RuntimeError("can't start new thread")"""] * 20
        assert futures
        while count_threads() > len(futures):  # but for those that come soon
            await asyncio.sleep(0.001)
        for future in futures:
            assert future.cancel()
        del future, futures
        while count_threads():
            time.sleep(0.001)
        gc.collect()
        blocks.append(sys.getallocatedblocks())
    assert await asyncio.gather(*soon) == [0, 1, 4, 9, 16]
    assert await start(5, 0) == 25


blocks = []
asyncio.run(main())
# What leaks shows in each round; what Python itself keeps is much in a few rounds
# and little in each.
if statistics.median(b - a for a, b in itertools.pairwise(blocks)) >= 10:
    sys.exit(f"something leaks: {blocks}")
print("done")
