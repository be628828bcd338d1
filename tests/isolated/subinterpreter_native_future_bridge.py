"""Use native futures in subinterpreters, with own GILs from 3.12 on: KIND CASE.

KIND is native, or plain: the control, which uses what asyncio has.
"""

import asyncio
import sys
import threading

from subinterpreters import failures, run

PLAIN = f"""
import sys
sys.path[:] = {sys.path!r}
import asyncio

async def main():
    return await asyncio.gather(*[asyncio.sleep(0.001 * i, i) for i in range(10)])

for _ in range(3):
    assert asyncio.run(main()) == [*range(10)]
"""
OURS = f"""
import sys
sys.path[:] = {sys.path!r}
import asyncio
from native_future_bridge import compute, counters, join, select, sleep, timeout

async def main():
    assert await select(sleep(3600), compute(10)) == 55
    try:
        await timeout(join(sleep(3600), compute(92), asyncio.sleep(3600)), 0.001)
    except TimeoutError:
        pass
    return await join(*[sleep(0.001 * i, i) for i in range(10)], asyncio.sleep(0))

for _ in range(3):
    assert asyncio.run(main()) == [*range(10), None]
"""
IN_FLIGHT = """
loop = asyncio.new_event_loop()

async def begin():
    tasks = [
        asyncio.ensure_future(one)
        for one in [join(sleep(3600), compute(92))]
        + [sleep(0.0005 * i) for i in range(20)]
    ]
    await asyncio.sleep(0)
    for task in tasks:
        task._log_destroy_pending = False
    return tasks

tasks = loop.run_until_complete(begin())
cycle = [tasks]
cycle.append(cycle)
sys.kept = tasks
"""
KIND, CASE = sys.argv[1:]
CODE = PLAIN
if KIND == "native":
    from native_future_bridge import compute, join, sleep

    CODE = OURS


def use():
    """Several, one after the other, and one after the end of another."""
    run(CODE)
    run(CODE)


def in_flight():
    """Destroy it with native futures in flight; those of the main one stay."""

    loop = asyncio.new_event_loop()

    async def begin():
        task = asyncio.ensure_future(join(sleep(0.05, 1), compute(20)))
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(begin())
    run(CODE + IN_FLIGHT)
    run(CODE + IN_FLIGHT + "loop.close()")
    assert loop.run_until_complete(task) == [1, 6765]
    loop.close()


def together():
    """Several interpreters in threads at once."""
    code = CODE + (IN_FLIGHT + "loop.close()" if KIND == "native" else "")
    threads = [threading.Thread(target=run, args=[code]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


globals()[CASE]()
if failures:
    sys.exit(failures[0])
print("done")
