"""Let threads drive awaitables whose steps are all C until the main thread says."""

import contextlib
import functools
import threading

from manual_await import run

box = {}
threads = []
entered = threading.Event()


class UntilStopped:
    """Yields None until box["stop"] is "now"; no step runs any Python code."""

    def __await__(self):
        entered.set()
        return iter(functools.partial(box.get, "stop"), "now")


class RefusedUntilStopped:
    """Yields 0 and answers a refusal with one more bad yield, until `throw` is gone.

    Here, too, no step runs any Python code.
    """

    def __await__(self):
        entered.set()
        return self

    __iter__ = __await__
    __next__ = staticmethod(int)
    throw = staticmethod(type)


def drive(awaitable):
    with contextlib.suppress(RuntimeError):
        run(awaitable)


for awaitable in UntilStopped(), UntilStopped(), RefusedUntilStopped():
    entered.clear()
    threads.append(threading.Thread(target=drive, args=[awaitable]))
    threads[-1].start()
    entered.wait()
box["stop"] = "now"
del RefusedUntilStopped.throw
for thread in threads:
    thread.join()
print("stopped")
