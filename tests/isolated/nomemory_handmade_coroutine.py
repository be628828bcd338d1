"""Let each allocation of one call fail in turn; print how many did.

A call ends as it would with memory or with MemoryError, never in another way, and
nothing is lost: what it was given is neither leaked nor freed too early, and the
coroutine can be closed.
"""

import sys
import types
import warnings

from handmade_coroutine import Echo, Ready, Relay, add, countdown
from shortage import Shortage, calls, drops, method


class Result:
    """What the operands give."""


RESULT = Result()
Result.__add__ = lambda self, other: RESULT


class Given:
    """An awaitable that gives an iterator over its items."""

    def __init__(self, *items):
        self.items = items

    def __await__(self):
        return iter(self.items)


class Suspends:
    """An awaitable in Python that suspends once and gives RESULT."""

    def __await__(self):
        yield
        return RESULT


@types.coroutine
def yield_once():
    yield
    return RESULT


async def native():
    await yield_once()
    return RESULT


async def catches():
    try:
        await yield_once()
    except KeyError:
        pass
    return RESULT


ERROR = KeyError("thrown")


def begun(coroutine, steps=1):
    for _ in range(steps):
        coroutine.send(None)
    return coroutine


def reads(name, make):
    """A case: read the attribute `name` of make()."""

    def prepare():
        coroutine = make()
        descriptor = getattr(type(coroutine), name)
        return descriptor.__get__, (coroutine,), coroutine

    return prepare


def ready():
    return add(Echo(RESULT), Echo(RESULT))


def suspends(operand):
    return lambda: add(operand(), operand())


def in_a(operand):
    return lambda: begun(add(operand(), Echo(RESULT)))


def in_b(operand):
    return lambda: begun(add(Echo(RESULT), operand()))


async def awaits(*awaitables):
    for awaitable in awaitables:
        await awaitable


def one():
    return Given(RESULT)


def two():
    return Given(RESULT, RESULT)


def ticking(steps):
    return lambda: begun(countdown(2, Suspends), steps)


def closing_countdown():
    given = iter([Suspends(), Echo(RESULT)])
    return begun(countdown(2, lambda: next(given)))


def handling():
    """A countdown in its last tick, with an exception that is being handled."""
    coroutine = ticking(1)()
    coroutine.throw(ERROR)
    return coroutine


PYTHON_OPERANDS = [Suspends, yield_once, native, catches]
OPERANDS = [*PYTHON_OPERANDS, one, two]
ENTERS = "throw", "close"
CASES = {
    "add()": lambda: (add, (RESULT, RESULT), None),
    "countdown()": lambda: (countdown, (RESULT, RESULT), None),
    "Echo()": lambda: (Echo, (RESULT,), None),
    "Relay()": lambda: (Relay, (RESULT,), None),
    "add(1)": lambda: (add, (RESULT,), None),
    "Echo()()": lambda: (Echo, (), None),
    "next(Echo)": lambda: (next, (Echo(RESULT),), None),
    "next(Echo((1, 2)))": lambda: (next, (Echo((RESULT, 2)),), None),
    "Ready()": lambda: (Ready, (RESULT,), None),
    "20 of Ready": lambda: (list, (map(Ready, [RESULT] * 20),), None),
    "next(Ready)": lambda: (next, (Ready(RESULT),), None),
    "Ready awaited": method("send", lambda: awaits(Ready(RESULT)), None),
    "20 of Ready awaited": method(
        "send", lambda: awaits(*map(Ready, [RESULT] * 20)), None
    ),
    "Relay.__await__": lambda: (Relay(two()).__await__, (), None),
    "Relay(3).__await__": lambda: (Relay(3).__await__, (), None),
    "send to a ready one": method("send", ready, None),
    "next of a ready one": calls(next, ready),
    "send to a Relay": method("send", lambda: add(Relay(Echo(RESULT)), 3), None),
    "send what is too early": method("send", ready, RESULT),
    "send to a closed one": method("send", lambda: closed(ready()), None),
    "send to what fails": method("send", lambda: add(3, 4), None),
    "send to what cannot be added": method(
        "send", lambda: add(Echo(1), Echo("")), None
    ),
    "throw before": method("throw", ready, ERROR),
    "throw a class before": method("throw", ready, KeyError),
    "throw StopIteration before": method("throw", ready, StopIteration(RESULT)),
    "throw nonsense before": method("throw", ready, RESULT),
    "throw into a closed one": method("throw", lambda: closed(ready()), ERROR),
    "close before": method("close", ready),
    "close a closed one": method("close", lambda: closed(ready())),
    "close a countdown": method("close", closing_countdown),
    "close what ignores it": method("close", ticking(1)),
    "send to a countdown": method("send", lambda: countdown(2, Suspends), None),
    "send to a countdown of no number": method(
        "send", lambda: countdown("", one), None
    ),
    "go on with a countdown": method("send", ticking(1), None),
    "end a countdown": method("send", ticking(3), None),
    "throw into a countdown": method("throw", ticking(1), ERROR),
    "throw into its last tick": method("throw", ticking(3), ERROR),
    "end one that handles": method("send", handling, None),
    "throw into one that handles": method("throw", handling, KeyError),
    "close one that handles": method("close", handling),
    "drop a fresh one": drops(ready),
    "drop a countdown": drops(closing_countdown),
    "drop what ignores it": drops(ticking(1)),
    "drop one that handles": drops(handling),
    "repr": calls(repr, ready),
    "await": method("__await__", ready),
    "iter": calls(iter, ready),
    "set a name": method("__setattr__", ready, "__name__", "name"),
}
for name in (
    "cr_await",
    "cr_code",
    "cr_frame",
    "cr_origin",
    "cr_running",
    "cr_suspended",
):
    CASES[f"{name}, fresh"] = reads(name, ready)
    CASES[f"{name}, suspended"] = reads(name, in_b(Suspends))
    CASES[f"{name}, closed"] = reads(name, lambda: closed(ready()))
if sys.version_info >= (3, 15):
    CASES["cr_state"] = reads("cr_state", ready)
for operand in OPERANDS:
    name = operand.__name__
    CASES[f"begin, {name}"] = method("send", suspends(operand), None)
    for where, begin in ("a", in_a), ("b", in_b):
        at = f"{name} in {where}"
        CASES[f"go on, {at}"] = method("send", begin(operand), None)
        CASES[f"send a value, {at}"] = method("send", begin(operand), RESULT)
        CASES[f"throw, {at}"] = method("throw", begin(operand), ERROR)
        CASES[f"throw a class, {at}"] = method("throw", begin(operand), KeyError)
        CASES[f"throw an exit, {at}"] = method("throw", begin(operand), GeneratorExit)
        CASES[f"throw nonsense, {at}"] = method("throw", begin(operand), RESULT)
        CASES[f"close, {at}"] = method("close", begin(operand))
        CASES[f"drop, {at}"] = drops(begin(operand))


def closed(coroutine):
    coroutine.close()
    return coroutine


def tidy(coroutine, result):
    """Let what is left of a case end; a coroutine must still know how to."""
    ERROR.__traceback__ = ERROR.__context__ = None
    for _ in range(3):
        try:
            coroutine.close()
            return
        except AttributeError:
            return
        except RuntimeError:
            pass  # a countdown ticks once more; then it is closed
    sys.exit("what is left cannot be closed")


def loses_the_error(name):
    """Whether this Python, without us, loses the MemoryError in this case.

    Python 3.12 and 3.13 do, where coroutine.throw() or close() of an operand in Python
    cannot get memory: that ends with SystemError there too.
    """
    runs_python = "countdown" in name or "handles" in name or "last tick" in name
    for operand in PYTHON_OPERANDS:
        runs_python = runs_python or f"{operand.__name__} in " in name
    versions = (3, 12), (3, 13)
    return runs_python and sys.version_info[:2] in versions and name[:5] in ENTERS


warnings.simplefilter("ignore")
warnings._warn_unawaited_coroutine = id  # its Python needs more memory than it is worth
Shortage(CASES, tidy, loses_the_error).main(RESULT)
