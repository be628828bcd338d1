"""Futures of C and awaitables of Python, in one another

One thread of C wakes any number of sleepers, and none of it takes the GIL.
"""

import asyncio
import time

from native_future_bridge import compute, counters, join, select, sleep, timeout


async def greet(name):
    await asyncio.sleep(0.1)
    return f"hello {name}"


async def main():
    before = time.perf_counter()
    await join(*[sleep(1) for _ in range(100_000)])
    passed = time.perf_counter() - before
    print(f"100000 sleeps, each of a second, in {passed:.2f} s")
    print(await join(compute(20), greet("C"), select(sleep(5), greet("Python"))))
    try:
        await timeout(join(sleep(3600), compute(92)), 0.1)
    except TimeoutError:
        print("TimeoutError; sleepers left:", counters()["sleepers"])


asyncio.run(main())
