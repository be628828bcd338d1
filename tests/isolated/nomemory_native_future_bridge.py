"""Let each allocation of Python's fail in turn, in one call; print how many did.

A call ends as it would with memory or with MemoryError, never in another way, and
nothing is lost: neither what it was given nor a sleeper or a job.
"""

import asyncio
import sys
from time import sleep as block

from native_future_bridge import compute, counters, join, select, sleep, timeout
from shortage import Shortage, drops, method

HOUR = 3600


class Thing:
    pass


THING = Thing()
loop = asyncio.new_event_loop()


def later():
    """Return a future, which needs no task."""
    return loop.create_future()


NATIVES = {
    "sleep": lambda: sleep(HOUR, THING),
    "no sleep": lambda: sleep(0, THING),
    "compute": lambda: compute(90),
    "join": lambda: join(sleep(HOUR, THING), compute(90)),
    "join of a future": lambda: join(later(), sleep(HOUR)),
    "select": lambda: select(sleep(HOUR), later()),
    "timeout": lambda: timeout(later(), HOUR),
    "timeout of sleep": lambda: timeout(sleep(HOUR, THING), HOUR),
    "nested": lambda: join(select(timeout(sleep(HOUR), HOUR)), join(later())),
}
# Whoever has no memory to cancel an awaitable of Python goes on to wait for it.
OF_PYTHON = "join of a future", "select", "timeout", "nested"


def begun(make):
    def begin():
        one = make()
        one.send(None)
        return one

    return begin


CASES = {"counters": lambda: (counters, (), None)}
for name, make in NATIVES.items():
    CASES[f"make {name}"] = lambda make=make: (make, (), None)
    CASES[f"begin {name}"] = method("send", make, None)
    CASES[f"close {name}"] = method("close", make)
    # Up to 3.11 Python ends when it has no memory to say that a cancel has failed.
    if name not in OF_PYTHON or sys.version_info >= (3, 12):
        CASES[f"drop {name}, begun"] = drops(begun(make))
        CASES[f"close {name}, begun"] = method("close", begun(make))
    if name not in OF_PYTHON:
        CASES[f"throw {name}"] = method("throw", begun(make), KeyError("thrown"))
for name, function, args in (
    ("sleep", sleep, (THING,)),
    ("sleep", sleep, (-1, THING)),
    ("compute", compute, (THING,)),
    ("compute", compute, (-1,)),
    ("join", join, ()),
    ("join", join, (THING,)),
    ("timeout", timeout, (THING, 1)),
):
    CASES[f"refused {name}{args}"] = lambda function=function, args=args: (
        function,
        args,
        None,
    )


def tidy(*left):
    """Let what is left of a case end."""
    for one in left:
        if hasattr(one, "close"):
            one.close()
    loop._ready.clear()
    for _ in range(6000):
        if counters()["jobs"] == 0:
            break
        block(0.001)
    if counters()["jobs"] or counters()["sleepers"]:
        sys.exit(f"something is left: {counters()}")


asyncio._set_running_loop(loop)
Shortage(CASES, tidy).main(THING)
