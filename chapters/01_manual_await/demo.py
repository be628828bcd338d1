"""Await without an event loop

A C function does what `await` does: it drives an awaitable to its end, step by step.
"""

import asyncio
import contextlib

from manual_await import run, steps


async def add(a, b):
    await asyncio.sleep(0)  # a bare yield: let others go first
    return a + b


async def wait(future):
    try:
        return await future
    except RuntimeError as error:
        return f"raised at the await: {error}"


print(run(add(1, 2)))
print(steps(add(1, 2)))
with contextlib.closing(asyncio.new_event_loop()) as loop:
    print(run(wait(loop.create_future())))
