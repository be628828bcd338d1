"""End the process with a future pending: KIND WAY. KIND is a function, or plain.

plain is the control: a future of the loop, that no thread completes.
"""

import asyncio
import atexit
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


def late():
    """Start one more, when the hook of the module has run already."""
    if KIND == "plain":
        return
    asyncio._set_running_loop(kept[0].get_loop())
    try:
        begin()
    except RuntimeError as error:
        print(error)


if WAY == "at_exit":
    atexit.register(late)

if KIND != "plain":
    import thread_woken_future

    function = getattr(thread_woken_future, KIND)


def begin(delay=HOUR):
    """Return a future of the running loop, and keep it."""
    if KIND == "plain":
        future = asyncio.get_running_loop().create_future()
    else:
        future = function(1, delay)
    kept.append(future)
    return future


async def begins(delay=HOUR, count=1):
    for _ in range(count):
        future = begin(delay)
    return future


async def waits():
    await begin()


def left_open(*args):
    """Begin futures in a loop that is never closed; return the last."""
    loop = asyncio.new_event_loop()
    future = loop.run_until_complete(begins(*args))
    kept.append(loop)
    return future


def after_run():
    asyncio.run(begins())


def completed():
    async def main():
        await begins()
        assert await begin(0) == 1

    asyncio.run(main())


def at_exit():
    asyncio.run(begins())


def open_loop():
    left_open()


def dropped():
    left_open()
    kept.clear()


def awaited():
    loop = asyncio.new_event_loop()

    async def main():
        kept.append(loop.create_task(waits()))
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def in_a_cycle():
    future = left_open()
    cycle = [future]
    future.add_done_callback(lambda future: cycle)
    kept.clear()


def in_builtins():
    builtins.kept_future = left_open()


def in_a_codec():
    """The registry of codecs is the last to let go."""
    future = left_open()

    def search(name):
        return None

    search.future = future
    future.add_done_callback(search)
    codecs.register(search)
    kept.clear()


def with_hundred():
    left_open(HOUR, 100)


def finishing():
    for thousandths in range(3):
        left_open(thousandths / 1000, 30)


def finishing_while_closed():
    for thousandths in range(3):
        left_open(thousandths / 1000, 30).get_loop().close()


def exit_within():
    async def main():
        kept.append(asyncio.create_task(waits()))
        await asyncio.sleep(0)
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
        kept.append(asyncio.create_task(waits()))
        await asyncio.sleep(0)
        raise KeyError("nobody handles it")

    asyncio.run(main())


def in_a_daemon():
    begun = threading.Event()

    async def main():
        future = begin()
        asyncio.get_running_loop().call_soon(begun.set)
        await future

    threading.Thread(target=asyncio.run, args=[main()], daemon=True).start()
    begun.wait()


def busy_daemon():
    """The loop of a daemon begins and ends futures while the process ends."""
    begun = threading.Event()

    async def main():
        while True:
            future = begin(0)
            begun.set()
            if KIND != "plain":
                await future
            kept.clear()
            await asyncio.sleep(0)

    def run():
        try:
            asyncio.run(main())
        except RuntimeError:
            pass

    threading.Thread(target=run, daemon=True).start()
    begun.wait()


def interrupt():
    async def main():
        future = begin()
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await future

    asyncio.run(main())


def interrupt_select():
    def kill():
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    async def main():
        future = begin()
        helper = threading.Thread(target=kill)
        asyncio.get_running_loop().call_soon(helper.start)
        await future

    asyncio.run(main())


def interrupt_outside():
    left_open()
    signal.raise_signal(signal.SIGINT)


globals()[WAY]()
