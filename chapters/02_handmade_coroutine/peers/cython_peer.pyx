# cython: language_level=3, freethreading_compatible=True
"""The twins of bench.py, compiled by Cython. Used by: run.py bench --peers."""


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
