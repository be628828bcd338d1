"""Count objects, references and memory blocks over many rounds of every path."""

import gc
import sys
import types
import weakref

from manual_await import run, steps


class Thing:
    """Something that a weak reference can watch."""


@types.coroutine
def yield_once(item):
    return (yield item)


class FromIterator:
    def __init__(self, items):
        self.items = items

    def __await__(self):
        return iter(self.items)


class Gives:
    """An awaitable that gives what is no iterator."""

    def __init__(self, thing):
        self.thing = thing

    def __await__(self):
        return self.thing


def being_awaited(thing):
    coroutine = returns(thing)
    coroutine.send(None)
    return coroutine


async def returns(thing):
    await yield_once(None)
    return thing


async def returns_after_refusal(thing):
    try:
        await yield_once(thing)
    except RuntimeError:
        return thing


async def raises(thing):
    error = ValueError()
    error.thing = thing
    raise error


async def is_refused(thing):
    await yield_once(thing)


CASES = [
    (run, returns),
    (run, returns_after_refusal),
    (run, raises),
    (run, is_refused),
    (run, lambda thing: FromIterator([thing])),
    (run, lambda thing: FromIterator([None, None])),
    (run, lambda thing: thing),
    (run, Gives),
    (run, being_awaited),
    (steps, yield_once),
    (steps, returns),
    (steps, returns_after_refusal),
    (steps, raises),
    (steps, lambda thing: FromIterator([thing, thing])),
]
watched = []


def play(rounds):
    """Call everything `rounds` times; remember each Thing weakly."""
    for function, make in CASES * rounds:
        thing = Thing()
        watched.append(weakref.ref(thing))
        try:
            function(make(thing))
        except (RuntimeError, TypeError, ValueError):
            pass


def count():
    """Return the numbers that a leak would raise."""
    watched.clear()
    gc.collect()
    blocks = sys.getallocatedblocks()  # 0 where malloc is Python's allocator
    references = getattr(sys, "gettotalrefcount", int)()
    return len(gc.get_objects()), blocks, references


play(300)  # until the caches of the interpreter are full
for _ in range(3):  # a leak shows each time, and the noise of the interpreter does not
    before = count()
    play(1000)
    gc.collect()
    alive = sum(ref() is not None for ref in watched[:-1])
    if alive:
        sys.exit(f"{alive} things are still alive")
    grown = [b - a for a, b in zip(before, count(), strict=True)]
    print("objects, blocks, references grew by", grown)
    if max(grown) < 500:  # a leak in one case would be 1,000
        break
else:
    sys.exit("something leaks")
