"""bench.py: what chapter 2 costs, awaited, beside `async def`.

Run it: python3 run.py bench handmade_coroutine
Taught in book/02_handmade_coroutine.md.
"""

### What is compared
import asyncio

import handmade_coroutine
import model


### The twins
async def ready(value):
    return value


async def relay(awaitable):
    return await awaitable


async def add(a, b):
    return await a + await b


async def countdown(n, tick):
    try:
        for _ in range(n):
            await tick()
    finally:
        await tick()
    return n


async def tick():
    pass


### The variants
def made_by_hand(module):
    """Return what the rows call, as `module` has it."""
    return {
        "echo": module.Echo,
        "ready": module.Ready,
        "relay": module.Relay,
        "add": module.add,
        "countdown": module.countdown,
    }


VARIANTS = {
    "async def": {
        "echo": ready,
        "ready": ready,
        "relay": relay,
        "add": add,
        "countdown": countdown,
    },
    "C": made_by_hand(handmade_coroutine),
    "class": made_by_hand(model),
}

### The rows
SHARED = {"value": ready, "tick": tick, "create_task": asyncio.create_task}

ROWS = {
    "a value, Echo": "await echo(7)",
    "a value, Ready": "await ready(7)",
    "None, Echo": "await echo(None)",
    "None, Ready": "await ready(None)",
    "a delegation": "await relay(value(7))",
    "a delegation, Echo": "await relay(echo(7))",
    "a delegation, Ready": "await relay(ready(7))",
    "countdown of 0": "await countdown(0, tick)",
    "countdown of 3": "await countdown(3, tick)",
    "add": "await add(value(1), value(2))",
    "add, Echo": "await add(echo(1), echo(2))",
    "add, Ready": "await add(ready(1), ready(2))",
    "add in a task": "await create_task(add(value(1), value(2)))",
}
