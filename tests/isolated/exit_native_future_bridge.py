"""End the process with a native future in flight: KIND WAY.

plain is the control: a future of the loop, that nothing completes.
"""

import asyncio
import builtins
import codecs
import os
import signal
import sys
import threading
import time

KIND, WAY = sys.argv[1:]
HOUR = 3600
kept = []

if KIND != "plain":
    from native_future_bridge import compute, join, select, sleep, timeout


async def forever():
    await asyncio.get_running_loop().create_future()


KINDS = {
    "plain": lambda: asyncio.get_running_loop().create_future(),
    "sleep": lambda: sleep(HOUR),
    "compute": lambda: compute(92),
    "join": lambda: join(sleep(HOUR), *[compute(90) for _ in range(10)]),
    "nested": lambda: timeout(select(join(sleep(HOUR)), sleep(HOUR)), HOUR),
    "mixed": lambda: join(sleep(HOUR), forever()),
}


async def waits():
    await KINDS[KIND]()


async def begins(count=1):
    """Begin tasks, and keep them."""
    for _ in range(count):
        kept.append(asyncio.create_task(waits()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return kept[-1]


def left_open(*args):
    """Begin in a loop that is never closed."""
    loop = asyncio.new_event_loop()
    kept.append(loop)
    return loop.run_until_complete(begins(*args))


def after_run():
    asyncio.run(begins())


def closed():
    left_open()
    kept[0].close()


def open_loop():
    left_open()


def dropped():
    left_open()
    kept.clear()


def dropped_and_closed():
    left_open()
    kept.pop(0).close()
    kept.clear()


def in_builtins():
    builtins.kept_task = left_open()


def in_a_codec():
    """The registry of codecs is the last to let go."""

    def search(name):
        return None

    search.task = left_open()
    codecs.register(search)
    kept.clear()


def with_hundred():
    asyncio.run(begins(100))


def hundred_left_open():
    left_open(100)


def exit_within():
    async def main():
        await begins()
        sys.exit(3)

    asyncio.run(main())


def exits():
    left_open()
    sys.exit("a reason")


def raises():
    left_open()
    raise KeyError("nobody handles it")


def raises_within():
    async def main():
        await begins()
        raise KeyError("nobody handles it")

    asyncio.run(main())


def ends_at_once():
    left_open()
    os._exit(7)


def in_a_daemon():
    begun = threading.Event()

    async def main():
        await begins()
        asyncio.get_running_loop().call_soon(begun.set)
        await waits()

    threading.Thread(target=asyncio.run, args=[main()], daemon=True).start()
    begun.wait()


def busy_daemon():
    """The loop of a daemon begins and ends native futures while the process ends."""
    begun = threading.Event()

    async def main():
        while True:
            begun.set()
            if KIND == "plain":
                await asyncio.sleep(0)
            else:
                await join(sleep(0), compute(1), sleep(0.0001), asyncio.sleep(0))

    def run():
        try:
            asyncio.run(main())
        except RuntimeError:
            pass

    threading.Thread(target=run, daemon=True).start()
    begun.wait()


def finishing():
    """They end while the process does."""

    async def begin():
        if KIND != "plain":
            for thousandths in range(100):
                one = join(sleep(thousandths / 10000), compute(thousandths % 20))
                kept.append(asyncio.ensure_future(one))
        await asyncio.sleep(0)

    asyncio.run(begin())


def interrupt():
    async def main():
        await begins()
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await waits()

    asyncio.run(main())


def interrupt_select():
    def kill():
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    async def main():
        helper = threading.Thread(target=kill)
        asyncio.get_running_loop().call_soon(helper.start)
        await waits()

    asyncio.run(main())


def interrupt_outside():
    left_open()
    signal.raise_signal(signal.SIGINT)


globals()[WAY]()
