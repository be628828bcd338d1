"""Let each allocation of one call fail in turn; print how many did.

A call ends with its value or with MemoryError, never with another exception, and
leaves no reference behind.
"""

import sys
import sysconfig
import types
import warnings

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError:
    print("this Python has no _testcapi")
    raise SystemExit(77) from None

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    print("failing allocations end free-threaded Python, with or without us")
    raise SystemExit(77)

from manual_await import run, steps

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


CASES = [
    (run, bare),
    (run, refused),
    (run, refused_in_c),
    (run, nested),
    (run, lambda: FromIterator([None, None])),
    (run, lambda: FromIterator([RESULT])),
    (run, lambda: 3),
    (steps, bare),
    (steps, lambda: FromIterator([RESULT, RESULT])),
]
# Python 3.12 and 3.13 lose the MemoryError when an `except` of a coroutine cannot
# get memory: coroutine.throw() alone, without us, ends with SystemError too.
LOSES_THE_ERROR = (
    {refused, refused_in_c, nested}
    if sys.version_info[:2] in ((3, 12), (3, 13))
    else set()
)
ONLY_THE_NTH, ALL_FROM_THE_NTH = True, False


def attempt(function, awaitable, start, stop):
    """Call with failing allocations; return the exception's type, or None."""
    raised = None
    empty_lists = [[] for _ in range(200)]  # the spare ones: a new list needs memory
    set_nomemory(start, stop)
    try:
        function(awaitable)
    except BaseException as error:
        remove_mem_hooks()
        raised = type(error)
    remove_mem_hooks()
    del empty_lists
    return raised


def check(function, make, kind):
    """Fail allocation after allocation until there is none left to fail."""
    awaitable = make()
    expected = attempt(function, awaitable, 10**6, 0)
    failures = in_a_row = start = 0
    while in_a_row < 10:
        awaitable = make()
        raised = attempt(function, awaitable, start, start + 1 if kind else 0)
        if hasattr(awaitable, "close"):
            awaitable.close()
        if raised is SystemError and make in LOSES_THE_ERROR:
            raised = MemoryError
        if raised is MemoryError:
            failures += 1
            in_a_row = 0
        elif raised is expected:
            in_a_row += 1
        else:
            sys.exit(f"{make} at allocation {start}: {raised}, not {expected}")
        start += 1
        if start > 500:
            sys.exit(f"{make} never stops allocating")
    return failures


# A call that fails before it begins leaves its coroutine never awaited.
warnings.simplefilter("ignore")
references = sys.getrefcount(RESULT)
total = 0
for kind in ONLY_THE_NTH, ALL_FROM_THE_NTH:
    for function, make in CASES:
        total += check(function, make, kind)
if sys.getrefcount(RESULT) != references:
    sys.exit(f"references: {references} before, {sys.getrefcount(RESULT)} after")
print(total)
