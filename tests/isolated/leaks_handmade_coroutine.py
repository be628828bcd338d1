"""Count objects, references and memory blocks over many rounds of every path."""

import contextlib
import gc
import inspect
import sys
import types
import warnings
import weakref

from handmade_coroutine import Echo, Ready, Relay, add, countdown


class Thing:
    """Something that a weak reference can watch."""

    def __add__(self, other):
        return self


class Given:
    """An awaitable that gives the iterator that it was given."""

    def __init__(self, iterator):
        self.iterator = iterator

    def __await__(self):
        return self.iterator


class Stops:
    """An operand whose + raises StopIteration."""

    def __add__(self, other):
        raise StopIteration(other)


@types.coroutine
def yield_once(item):
    yield item
    return item


async def later(thing):
    await yield_once(thing)
    return thing


async def awaits(*awaitables):
    for awaitable in awaitables:
        await awaitable


async def fails(thing):
    await yield_once(thing)
    error = KeyError()
    error.thing = thing
    raise error


def drive(coroutine):
    """Send None to the end."""
    while True:
        coroutine.send(None)


def looked_at(coroutine):
    """Read every attribute."""
    for name in dir(coroutine):
        getattr(coroutine, name)
    repr(coroutine)
    inspect.getcoroutinestate(coroutine)
    for _ in range(2):  # the second time, a new name is let go
        coroutine.__name__ = coroutine.__qualname__ = f"name of {coroutine!r}"
    return coroutine


def begun(coroutine, steps=1):
    for _ in range(steps):
        looked_at(coroutine).send(None)
    return looked_at(coroutine)


def closed(coroutine):
    coroutine.close()
    return looked_at(coroutine)


def with_origin(thing):
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        looked_at(add(thing, thing))
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


def in_a_cycle(coroutine, thing):
    thing.cycle = coroutine


def weakly(coroutine, thing):
    ref = weakref.ref(coroutine, lambda ref: thing)
    thing.ref = ref
    return coroutine


def ticks(thing, last):
    given = iter([later(thing), last])
    return lambda: next(given)


def reenters(thing):
    holder = []

    def steps():
        for use, argument in ("send", None), ("throw", KeyError(thing)):
            with contextlib.suppress(ValueError):
                getattr(holder[0], use)(argument)
        yield thing

    holder.append(add(Given(steps()), 1))
    begun(holder[0])


def again(coroutine):
    """Use what has ended."""
    with contextlib.suppress(StopIteration):
        drive(coroutine)
    for use in coroutine.send, coroutine.throw:
        with contextlib.suppress(RuntimeError):
            use(None if use == coroutine.send else KeyError())
    coroutine.close()


CASES = [
    lambda thing: add(thing, thing),
    lambda thing: countdown(thing, thing),
    lambda thing: looked_at(add(thing, thing)),
    with_origin,
    lambda thing: add(thing),
    lambda thing: add(thing, b=thing),
    lambda thing: Echo(thing, thing),
    lambda thing: Echo(value=thing),
    lambda thing: Echo(Relay(Echo(thing))),
    lambda thing: next(Echo(thing)),
    lambda thing: next(Echo((thing, thing))),
    lambda thing: next(Echo(None)),
    lambda thing: Ready(thing, thing),
    lambda thing: Ready(Relay(Ready(thing))),
    lambda thing: next(Ready(thing)),
    lambda thing: next(Ready((thing, thing))),
    lambda thing: drive(awaits(Ready(thing), Ready([thing]), Ready(None))),
    lambda thing: [Ready(thing) for _ in range(40)],
    lambda thing: in_a_cycle(Ready(thing), thing),
    lambda thing: Relay(Echo(thing)).__await__(),
    lambda thing: Relay(thing).__await__(),
    lambda thing: closed(add(thing, thing)),
    lambda thing: add(thing, thing).throw(KeyError(thing)),
    lambda thing: add(thing, thing).throw(StopIteration(thing)),
    lambda thing: add(thing, thing).throw(thing),
    lambda thing: add(thing, thing).throw(),
    lambda thing: add(thing, thing).throw(KeyError, thing, None),
    lambda thing: add(thing, thing).throw(KeyError(), thing),
    lambda thing: add(thing, thing).throw(KeyError, thing, thing),
    lambda thing: add(thing, thing).send(thing),
    lambda thing: drive(add(thing, thing)),
    lambda thing: drive(add(Echo(thing), Echo(thing))),
    lambda thing: drive(add(Relay(Echo(thing)), Echo(thing))),
    lambda thing: drive(add(later(thing), later(thing))),
    lambda thing: drive(add(later(thing), yield_once(thing))),
    lambda thing: drive(add(add(later(thing), later(thing)), Echo(thing))),
    lambda thing: drive(add(Echo(1), later(thing))),
    lambda thing: drive(add(Echo(Stops()), Echo(thing))),
    lambda thing: drive(add(later(thing), thing)),
    lambda thing: drive(add(later(thing), fails(thing))),
    lambda thing: drive(add(fails(thing), Echo(thing))),
    lambda thing: drive(add(Given(thing), thing)),
    lambda thing: again(add(later(thing), later(thing))),
    lambda thing: next(begun(add(later(thing), Echo(thing)))),
    lambda thing: begun(add(later(thing), Echo(thing))),
    lambda thing: begun(add(later(thing), later(thing)), 2),
    lambda thing: begun(add(Given(iter([thing, thing])), thing), 2),
    lambda thing: begun(add(later(thing), Echo(thing))).throw(KeyError(thing)),
    lambda thing: begun(add(later(thing), Echo(thing))).throw(KeyError, thing, None),
    lambda thing: begun(add(later(thing), Echo(thing))).throw(GeneratorExit(thing)),
    lambda thing: begun(add(later(thing), Echo(thing))).throw(thing),
    lambda thing: begun(add(Given(iter([thing])), 1)).throw(KeyError(thing)),
    lambda thing: begun(add(Given(iter([thing])), 1)).throw(StopIteration(thing)),
    lambda thing: begun(add(Given(iter([thing])), 1)).throw(thing),
    lambda thing: begun(add(Given(iter([thing])), 1)).send(thing),
    lambda thing: closed(begun(add(later(thing), Echo(thing)))),
    lambda thing: closed(begun(add(Given(iter([thing])), Echo(thing)))),
    lambda thing: closed(begun(add(later(thing), later(thing)), 2)),
    lambda thing: drive(countdown(2, lambda: later(thing))),
    lambda thing: drive(countdown(thing, lambda: later(thing))),
    lambda thing: drive(countdown(2, lambda: thing)),
    lambda thing: drive(countdown(2, ticks(thing, fails(thing)))),
    lambda thing: drive(countdown(1, ticks(thing, fails(thing)))),
    lambda thing: begun(countdown(3, lambda: later(thing)), 2),
    lambda thing: begun(countdown(1, lambda: later(thing)), 2),
    lambda thing: closed(begun(countdown(3, lambda: later(thing)))),
    lambda thing: closed(begun(countdown(3, ticks(thing, Echo(thing))))),
    lambda thing: begun(countdown(3, ticks(thing, Echo(1)))).throw(KeyError(thing)),
    lambda thing: drive(
        thrown_into(begun(countdown(3, lambda: later(thing))), KeyError(thing))
    ),
    lambda thing: in_a_cycle(add(thing, thing), thing),
    lambda thing: in_a_cycle(begun(add(later(thing), thing)), thing),
    lambda thing: in_a_cycle(begun(add(later(thing), later(thing)), 2), thing),
    lambda thing: in_a_cycle(countdown(1, thing), thing),
    lambda thing: in_a_cycle(begun(countdown(1, lambda: later(thing))), thing),
    lambda thing: in_a_cycle(Echo(thing), thing),
    lambda thing: in_a_cycle(Relay(thing), thing),
    lambda thing: weakly(add(thing, thing), thing),
    lambda thing: weakly(begun(add(later(thing), thing)), thing),
    reenters,
]
watched = []


def thrown_into(coroutine, error):
    coroutine.throw(error)
    return coroutine


def play(rounds):
    """Do everything `rounds` times; remember each Thing weakly."""
    for case in CASES * rounds:
        thing = Thing()
        watched.append(weakref.ref(thing))
        try:
            case(thing)
        except (
            AttributeError,
            GeneratorExit,
            KeyError,
            RuntimeError,
            StopIteration,
            TypeError,
        ):
            pass


def count():
    """Return the numbers that a leak would raise."""
    watched.clear()
    for _ in range(3):
        gc.collect()
    blocks = sys.getallocatedblocks()  # 0 where malloc is Python's allocator
    references = getattr(sys, "gettotalrefcount", int)()
    return len(gc.get_objects()), blocks, references


ROUNDS = 500
warnings.simplefilter("ignore")
sys.unraisablehook = lambda unraisable: None
play(200)  # until the caches of the interpreter are full
for _ in range(6):  # a leak shows each time, and the noise of the interpreter does not
    before = count()
    play(ROUNDS)
    for _ in range(3):
        gc.collect()
    alive = sum(ref() is not None for ref in watched[:-1])
    if alive:
        sys.exit(f"{alive} things are still alive")
    grown = [b - a for a, b in zip(before, count(), strict=True)]
    print("objects, blocks, references grew by", grown)
    if max(grown) < ROUNDS // 2:  # a leak in one case would be ROUNDS
        break
else:
    sys.exit("something leaks")
