"""Use futures in subinterpreters, each with its own GIL from 3.12 on: KIND CASE.

KIND is native, or plain: the control, which uses what asyncio has.
"""

import asyncio
import sys
import threading

from subinterpreters import failures, interpreters, run

PLAIN = f"""
import sys
sys.path[:] = {sys.path!r}
import asyncio

async def main():
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(10)]
    for i, future in enumerate(futures):
        loop.call_later(0.001 * i, future.set_result, i * i)
    return await asyncio.gather(*futures)

for _ in range(3):
    assert asyncio.run(main()) == [i * i for i in range(10)]
"""
OURS = f"""
import sys, time
sys.path[:] = {sys.path!r}
import asyncio
import thread_woken_future
from thread_woken_future import count_threads, square, subclassed_square

async def main(start):
    ended = start(3, 3600)
    ended.cancel()
    return await asyncio.gather(*[start(i, 0.001 * i) for i in range(10)])

for start in [square, subclassed_square] * 3:
    assert asyncio.run(main(start)) == [i * i for i in range(10)]
while count_threads():
    time.sleep(0.001)
"""
# Up to 3.13.0 Python may abort if threads attach to an interpreter that has none.
IN_FLIGHT = """
loop = asyncio.new_event_loop()

async def begin():
    futures = []
    for start in square, subclassed_square:
        futures += [start(i, 3600) for i in range(10)]
        if sys.version_info >= (3, 14):
            futures += [start(i, 0.001 * i) for i in range(10)]
    return futures

futures = loop.run_until_complete(begin())
cycle = [futures]
cycle.append(cycle)
sys.kept = futures
"""
LEFT = f"""
import sys
sys.path[:] = {sys.path!r}
import asyncio

async def begin():
    START

loop = asyncio.new_event_loop()
kept = loop.run_until_complete(begin())
"""
STARTS = {
    "plain": "return [loop.create_future() for i in range(300)]",
    "native": """
    from thread_woken_future import square
    return [square(i, 0.0004 * i) for i in range(300)]
""",
}
KIND, CASE = sys.argv[1:]
CODE = PLAIN
if KIND == "native" and CASE != "left":
    from thread_woken_future import count_threads, square

    CODE = OURS


def use():
    """Several, one after the other, and one after the end of another."""
    run(CODE)
    run(CODE)


def in_flight():
    """Destroy it with futures pending; those of the main interpreter stay."""
    loop = asyncio.new_event_loop()

    async def begin():
        return square(3, 3600), square(3, 0.01)

    future, soon = loop.run_until_complete(begin())
    run(CODE + IN_FLIGHT)
    run(CODE + IN_FLIGHT)
    assert loop.run_until_complete(soon) == 9
    assert count_threads() == 1
    assert future.cancel()
    loop.close()


def together():
    """Several interpreters in threads at once."""
    code = CODE if PLAIN in CODE else CODE + IN_FLIGHT
    threads = [threading.Thread(target=run, args=[code]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def left():
    """End the process while the interpreter is there, and its threads come back."""
    code = LEFT.replace("START", STARTS[KIND])
    kept.append(interpreters.create())  # up to 3.12, who drops it destroys it
    failure = interpreters.run_string(kept[0], code)
    if failure is not None:
        failures.append(str(failure))


kept = []
globals()[CASE]()
if failures:
    sys.exit(failures[0])
print("done")
