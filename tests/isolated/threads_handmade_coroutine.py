"""Let threads share a coroutine: threads_handmade_coroutine.py CASE.

Each step goes to exactly one thread; the others are refused.
"""

import inspect
import random
import sys
import threading

from handmade_coroutine import add, countdown

THREADS = 4
ROUNDS = 60
STEPS = 200
REFUSALS = {
    "coroutine already executing",
    "cannot reuse already awaited coroutine",
    "coroutine is being awaited already",
    "coroutine ignored GeneratorExit",
}


class Steps:
    """An awaitable in Python that yields numbers; two threads in it would be seen."""

    def __init__(self, start, result):
        self.numbers = range(start, start + STEPS)
        self.result = result

    def __await__(self):
        for number in self.numbers:
            try:
                yield number
            except Thrown:
                pass
        return self.result


class Bare:
    """An awaitable whose steps are all C."""

    def __init__(self, items):
        self.items = items

    def __await__(self):
        return iter(self.items)


class Thrown(Exception):
    pass


def fresh():
    return add(Steps(0, 1), Steps(STEPS, 2))


def in_threads(work, count=THREADS):
    """Call work(outcomes) in threads that begin together; return all outcomes."""
    outcomes = [[] for _ in range(count)]
    barrier = threading.Barrier(count)

    def run(mine):
        barrier.wait()
        work(mine)

    threads = [threading.Thread(target=run, args=[mine]) for mine in outcomes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [one for mine in outcomes for one in mine]


def step(function, *args):
    """Do one step; return what came of it."""
    try:
        return "item", function(*args)
    except StopIteration as stop:
        return "result", stop.value
    except Thrown:
        return "thrown", None
    except (RuntimeError, ValueError) as error:
        if str(error) not in REFUSALS:
            raise
        return "refused", str(error)


def until_closed(coroutine, mine, *functions):
    """Do steps until the coroutine is closed; note them, but not the refusals."""
    while True:
        kind, value = step(random.choice(functions))
        if (kind, value) == ("refused", "cannot reuse already awaited coroutine"):
            return
        if kind != "refused":
            mine.append((kind, value))


def check(outcomes, items, result):
    assert sorted(v for kind, v in outcomes if kind == "item") == items, outcomes
    assert [v for kind, v in outcomes if kind == "result"] == [result], outcomes


def sends(coroutine):
    """Send None, in both ways."""
    return [lambda: coroutine.send(None), lambda: next(coroutine)]


def steps():
    """All send: each step goes to one of them, and so does the result."""
    coroutine = fresh()
    outcomes = in_threads(lambda mine: until_closed(coroutine, mine, *sends(coroutine)))
    check(outcomes, [*range(2 * STEPS)], 3)


def ticks():
    """All send, where every step is C."""
    coroutine = countdown(STEPS, lambda: Bare([8]))
    outcomes = in_threads(lambda mine: until_closed(coroutine, mine, *sends(coroutine)))
    check(outcomes, [8] * (STEPS + 1), STEPS)


def throw():
    """Some throw what every step catches; nothing else changes."""
    coroutine = fresh()
    coroutine.send(None)
    functions = [*sends(coroutine), lambda: coroutine.throw(Thrown)]
    outcomes = in_threads(lambda mine: until_closed(coroutine, mine, *functions))
    check(outcomes, [*range(1, 2 * STEPS)], 3)


def close():
    """Some close it while others send."""
    coroutine = fresh()
    functions = [*sends(coroutine), coroutine.close]
    outcomes = in_threads(lambda mine: until_closed(coroutine, mine, *functions))
    items = [value for _, value in outcomes if value is not None]
    assert sorted(items) == [*range(len(items))], outcomes
    assert inspect.getcoroutinestate(coroutine) == "CORO_CLOSED"


def looks():
    """Some look at it from every side while others drive it."""
    coroutine = fresh()
    works = iter(["look", "drive"] * (THREADS // 2))

    def work(mine):
        if next(works) == "drive":
            until_closed(coroutine, mine, *sends(coroutine))
            return
        while inspect.getcoroutinestate(coroutine) != "CORO_CLOSED":
            frame = coroutine.cr_frame
            line = frame and frame.f_lineno
            coroutine.__qualname__ = coroutine.__name__ = f"line {line}"
            repr([coroutine, coroutine.__name__, *map(read, NAMES)])

    def read(name):
        return getattr(coroutine, name)

    check(in_threads(work), [*range(2 * STEPS)], 3)


NAMES = ["cr_await", "cr_code", "cr_origin", "cr_running", "cr_suspended"]
CASES = [steps, ticks, throw, close, looks]
sys.setswitchinterval(1e-5)
for _ in range(ROUNDS):
    {case.__name__: case for case in CASES}[sys.argv[1]]()
print("done")
