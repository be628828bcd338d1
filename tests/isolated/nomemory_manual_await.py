"""Let each allocation of one call fail in turn; print how many did.

A call ends with its value or with MemoryError, never with another exception, and
leaves no reference behind.
"""

import sys
import types
import warnings

from manual_await import run, steps
from shortage import Shortage, calls

RESULT = object()


@types.coroutine
def yield_once(item):
    yield item


class FromIterator:
    def __init__(self, items):
        self.items = items

    def __await__(self):
        return iter(self.items)


async def bare():
    await yield_once(None)
    return RESULT


async def refused():
    try:
        await yield_once(RESULT)
    except RuntimeError:
        pass
    return RESULT


async def refused_in_c():
    try:
        await FromIterator([RESULT])
    except RuntimeError:
        pass
    return RESULT


async def nested():
    return run(refused())


CASES = {
    "run bare": calls(run, bare),
    "run refused": calls(run, refused),
    "run refused in C": calls(run, refused_in_c),
    "run nested": calls(run, nested),
    "run to the end": calls(run, lambda: FromIterator([None, None])),
    "run what yields": calls(run, lambda: FromIterator([RESULT])),
    "run a number": calls(run, lambda: 3),
    "steps of bare": calls(steps, bare),
    "steps of an iterator": calls(steps, lambda: FromIterator([RESULT, RESULT])),
}


def loses_the_error(name):
    """Whether this Python, without us, loses the MemoryError in this case.

    Python 3.12 and 3.13 do, where an `except` of a coroutine cannot get memory:
    coroutine.throw() alone ends with SystemError there too.
    """
    enters = "refused" in name or "nested" in name
    return enters and sys.version_info[:2] in ((3, 12), (3, 13))


def tidy(awaitable, result):
    """Close a coroutine that was not run."""
    if hasattr(awaitable, "close"):
        awaitable.close()


# A call that fails before it begins leaves its coroutine never awaited.
warnings.simplefilter("ignore")
Shortage(CASES, tidy, loses_the_error).main(RESULT)
