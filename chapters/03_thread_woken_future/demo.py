"""A future woken by a thread

A thousand threads of C wait and compute, and none of them holds the GIL meanwhile.
"""

import asyncio
import time

from thread_woken_future import count_threads, square


async def all_ended():
    while count_threads():
        await asyncio.sleep(0.001)


async def main():
    before = time.perf_counter()
    results = await asyncio.gather(*[square(i, 1.0) for i in range(1000)])
    passed = time.perf_counter() - before
    print(f"{len(results)} squares, each after a second, in {passed:.2f} s")
    try:
        await square(2**40, 0)
    except OverflowError as error:
        print("OverflowError:", error)
    await all_ended()
    future = square(7, 3600.0)
    print(future, "with", count_threads(), "thread")
    future.cancel()
    await all_ended()
    print(future, "with", count_threads(), "threads")


asyncio.run(main())
