"""Drive something that never ends, until Ctrl-C; print how it ended."""

import inspect
import itertools
import sys

from manual_await import run, steps


class Forever:
    """An awaitable whose every step is C: bare yields without end."""

    def __await__(self):
        return itertools.repeat(None)


async def yield_none():
    await Forever()


async def main(step):
    try:
        print("ready", flush=True)
        await step()
    finally:
        await Once()
        print("finally")


class Once:
    """Cleanup that awaits: one bare yield."""

    def __await__(self):
        yield


function = {"run": run, "steps": steps}[sys.argv[1]]
coroutine = main(yield_none)
try:
    function(coroutine)
except KeyboardInterrupt:
    print(inspect.getcoroutinestate(coroutine))
