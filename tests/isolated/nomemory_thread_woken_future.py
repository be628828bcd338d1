"""Let each allocation of one call fail in turn; print how many did.

A call ends as it would with memory or with MemoryError, never in another way, and
nothing is lost: neither what it was given nor a thread.
"""

import asyncio
import sys
from time import sleep

from shortage import Shortage, calls, drops, method, remove_mem_hooks, set_nomemory
from thread_woken_future import Future, count_threads, square, subclassed_square

HOUR = 3600


class Thing:
    """A result, a callback or a message."""

    def __call__(self, *args):
        pass


class Loop:
    """Takes the callbacks, and never calls them."""

    def call_soon(self, callback, *args, context=None):
        pass

    def get_debug(self):
        return False

    def is_closed(self):
        return False

    def call_exception_handler(self, details):
        pass


THING = Thing()
ERROR = KeyError("error")
LOOP = Loop()
FUTURES = asyncio.Future, Future


def make():
    return Future(loop=LOOP)


def working():
    return square(3, HOUR)


def with_callbacks(make, count=3):
    future = make()
    for _ in range(count):
        future.add_done_callback(THING)
    return future


def finished():
    future = make()
    future.set_result(THING)
    return future


def failed():
    future = make()
    future.set_exception(ERROR)
    return future


def cancelled():
    future = make()
    future.cancel(THING)
    return future


def begun():
    iterator = iter(make())
    next(iterator)
    return iterator


def ended():
    future = make()
    iterator = iter(future)
    next(iterator)
    future.set_result(THING)
    return iterator


CASES = {
    "Future()": lambda: (Future, (), None),
    "make": lambda: (make, (), None),
    "square": lambda: (square, (3, HOUR), None),
    "square, of a large number": lambda: (square, (2**62, HOUR), None),
    "square, no delay that could be": lambda: (square, (3, -1), None),
    "count_threads": lambda: (count_threads, (), None),
    "drop": drops(make),
    "drop with callbacks": drops(lambda: with_callbacks(make)),
    "drop a failed one": drops(failed),
    "next of a begun one": calls(next, begun),
    "next of an ended one": calls(next, ended),
    "throw": method("throw", begun, KeyError("thrown")),
    "throw a class": method("throw", begun, KeyError),
    "throw nonsense": method("throw", begun, THING),
    "close": method("close", begun),
}
MAKES = {
    "pending": make,
    "with a callback": lambda: with_callbacks(make, 1),
    "with callbacks": lambda: with_callbacks(make),
    "finished": finished,
    "failed": failed,
    "cancelled": cancelled,
}
METHODS = {
    "set_result": [THING],
    "set_exception": [ERROR],
    "cancel": [THING],
    "add_done_callback": [THING],
    "remove_done_callback": [THING],
    "result": [],
    "exception": [],
    "done": [],
    "cancelled": [],
    "get_loop": [],
    "_make_cancelled_error": [],
    "__await__": [],
}
for state, function in MAKES.items():
    for name, args in METHODS.items():
        CASES[f"{name}, {state}"] = method(name, function, *args)
    CASES[f"set_exception(class), {state}"] = method(
        "set_exception", function, KeyError
    )
    CASES[f"set_exception(nonsense), {state}"] = method(
        "set_exception", function, THING
    )
    CASES[f"set_exception(stop), {state}"] = method(
        "set_exception", function, StopIteration(THING)
    )
    CASES[f"repr, {state}"] = calls(repr, function)
    CASES[f"iter, {state}"] = calls(iter, function)
    CASES[f"next, {state}"] = lambda function=function: (
        next,
        (iter(function()),),
        None,
    )

ENDS = {"set_result": THING, "set_exception": ERROR, "cancel": THING}
for name, argument in ENDS.items():
    CASES[f"{name}, working"] = method(name, working, argument)
    CASES[f"{name}, working, with callbacks"] = method(
        name, lambda: with_callbacks(working), argument
    )
# SubclassedFuture runs the code of asyncio in between: only what is ours.
CASES["subclassed_square"] = lambda: (subclassed_square, (3, HOUR), None)
CASES["cancel, subclassed"] = method(
    "cancel", lambda: subclassed_square(3, HOUR), THING
)
CASES["cancel, subclassed with callbacks"] = method(
    "cancel", lambda: with_callbacks(lambda: subclassed_square(3, HOUR)), THING
)


def until_no_threads():
    """Wait: a thread must not free memory while the hooks come or go."""
    for _ in range(6000):
        if count_threads() == 0:
            return
        sleep(0.001)
    sys.exit(f"{count_threads()} threads are left")


def let_threads_end(result):
    """Give threads that the call has stopped a moment to end without memory."""
    left = 0 if isinstance(result, FUTURES) else 50
    while left and count_threads():
        sleep(0.0005)
        left -= 1


def tidy(*left):
    """Let what is left of a case end."""
    ERROR.__traceback__ = ERROR.__context__ = None
    for future in left:
        if isinstance(future, FUTURES):
            future.cancel()
            if not future.done():
                sys.exit("what is left cannot be cancelled")
    until_no_threads()


def attach(start):
    """A thread that gets no memory to attach waits for it."""
    loop = asyncio.new_event_loop()

    async def begin():
        return [start(i, 0.2) for i in range(3)]

    futures = loop.run_until_complete(begin())
    set_nomemory(0, 0)
    sleep(0.4)
    remove_mem_hooks()
    assert loop.run_until_complete(asyncio.gather(*futures)) == [0, 1, 4]
    loop.close()
    until_no_threads()


if sys.version_info >= (3, 12):  # 3.11 itself crashes in PyThreadState_New
    for start in square, subclassed_square:
        attach(start)
asyncio._set_running_loop(LOOP)
Shortage(CASES, tidy, meanwhile=let_threads_end).main(THING, LOOP)
