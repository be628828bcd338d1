"""A coroutine made by hand

A C function returns a coroutine: loops, tasks and debuggers take it for a native one.
"""

import asyncio
import inspect

from handmade_coroutine import Echo, add, countdown


async def later(value):
    await asyncio.sleep(0)
    return value


async def main():
    print(await add(later(1), Echo(2)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(add(later(i), later(i))) for i in range(3)]
    print([task.result() for task in tasks])
    waiting = asyncio.create_task(countdown(3, lambda: asyncio.sleep(0)))
    await asyncio.sleep(0)
    print(inspect.getcoroutinestate(waiting.get_coro()))
    print(await waiting)


asyncio.run(main())
