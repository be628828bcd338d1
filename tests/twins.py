"""The `async def` twins of chapter 2, and awaitables of every kind to try them with.

An awaitable is described by a plain tuple, so that it can be made anew in each of two
worlds: one where `add` and `countdown` are the twins, one where they are the C. What
happens to it is told to its world, in words that are the same in both.
"""

import asyncio
import contextlib
import functools
import gc
import re
import sys
import types
import weakref

from handmade_coroutine import Echo, Relay


async def add(a, b, /):
    return (
        await a  # an await on a line of its own
        + await b  # shows in cr_frame which of the two it is
    )


async def countdown(n, tick, /):
    try:
        for _ in range(n):
            await tick()
    finally:
        await tick()
    return n


FIRST, SECOND = (add.__code__.co_firstlineno + n for n in (2, 3))
TRY, FINALLY = (countdown.__code__.co_firstlineno + n for n in (3, 5))


class Interrupt(BaseException):
    """What `except Exception` does not catch."""


class OtherExit(GeneratorExit):
    """A GeneratorExit, but not the very class."""


class Unmakeable(Exception):
    """An exception that cannot be made."""

    def __init__(self, *args):
        raise LookupError("an error in __init__")


class NoError(Exception):
    """An exception whose call gives no exception."""

    def __new__(cls, *args):
        return 14


class Handled(Exception):
    """What the caller is handling."""


ERRORS = {
    error.__name__: error
    for error in (
        ValueError,
        RuntimeError,
        AttributeError,
        Interrupt,
        GeneratorExit,
        OtherExit,
        StopIteration,
        StopAsyncIteration,
        asyncio.CancelledError,
    )
}


# Named difference: up to 3.14 a native coroutine is suspended still while the method
# `throw` of what it awaits is looked up, and can be driven from there, after which it
# goes on as if it had not been. Since 3.15 it runs already; the C does so everywhere.
UNSEEN = {"get throw"} if sys.version_info < (3, 15) else set()


# A world


async def nothing():
    pass


with contextlib.closing(nothing()) as coroutine:
    COROUTINE_WRAPPER = type(coroutine.__await__())


WORDS = {
    r"object (\S+) can't be used in 'await' expression": (
        r"'\1' object can't be awaited"
    ),
    r"__await__\(\) returned non-iterator of type '(?:\w+\.)*(\w+)'": r"gave \1",
    r"__await__\(\) returned a coroutine": r"gave coroutine",
    r"[\w.]+\.__await__\(\) must return an iterator, not (?:\w+\.)*(\w+)": r"gave \1",
    r"gave generator": r"gave coroutine",
}


def same_words(args):
    """Named difference: in all versions ours says of what cannot be awaited what
    native coroutines say since 3.14 or 3.15."""
    if len(args) == 1 and isinstance(args[0], str):
        words = args[0]
        for pattern, replacement in WORDS.items():
            words = re.sub(rf"^{pattern}$", replacement, words)
        return (words,)
    return args


# What is heard by who awaits a coroutine that is being closed or thrown into.
REFUSED = (
    ("RuntimeError", ("coroutine is being awaited already",)),
    ("ValueError", ("coroutine already executing",)),
)


class World:
    """One of two worlds: what is made in it, and what happens there.

    `functions` has its add and countdown. `reentries` says for an event, such as
    "next", what is done to the coroutine when this happens for the first time, in
    the midst of its step. If `pinned`, what is made lives as long as the world.
    """

    def __init__(self, functions, loop, perform, reentries=(), pinned=False):
        self.functions = functions
        self.loop = loop
        self.perform = perform
        self.reentries = dict(reentries)
        self.pins = []
        self.pinned = pinned
        self.is_ending = False
        self.count = 0
        self.step = self.warned = 0
        self.names = {}
        self.events = []
        self.describing = set()
        self.calm = True  # no exception was seen yet
        self.ignored = False  # something that was to die awaited instead
        self.future = None
        self.subject = None
        self.awaiting = None
        self.ended = None

    # names

    def name(self, thing, kind):
        """Give `thing` a name, which its counterpart in the other world has, too."""
        name = self.new_name(kind)
        self.names[id(thing)] = weakref.ref(thing), name
        if self.pinned:
            self.pins.append(thing)
        if isinstance(thing, Thing):
            thing.name_here = name  # for its __del__, when no reference is left
        return thing

    def new_name(self, kind):
        """Return a name, with a number if things are made in the same order."""
        self.count += 1
        return f"{kind} {self.count}" if self.pinned or self.calm else kind

    def label(self, thing):
        """Return what `thing` is in words that are the same in both worlds."""
        cls = type(thing)
        if cls is str:
            return re.sub("0x[0-9a-fA-F]+", "0x", thing) if "0x" in thing else thing
        if thing is None or cls is int or cls is bool or cls is float:
            return thing
        if cls is tuple or cls is list:
            return cls.__name__, *map(self.label, thing)
        if isinstance(thing, BaseException):
            return self.describe(thing)
        if isinstance(thing, type):
            return "class", thing.__qualname__
        if cls is types.TracebackType:
            return "traceback", *traceback_names(thing)
        if isinstance(thing, Thing):
            return thing.name_here
        reference, name = self.names.get(id(thing), (None, None))
        if reference is not None and reference() is thing:
            return name
        if cls is COROUTINE_WRAPPER:
            # What __await__ of a native coroutine gives; the C gives itself.
            return self.label(*gc.get_referents(thing))
        if cls is type(iter([])):
            return "list_iterator", thing.__length_hint__()
        return "an object", cls.__qualname__

    def describe(self, error):
        """Return all there is to know of an exception, which gets a name."""
        if error is None:
            return None
        name = error.__dict__.get("name_here")
        if name is None:
            # Not a number of its own: in what order things die is not always compared.
            name = self.new_name("error seen") if self.pinned else "an error"
            error.name_here = name
        self.calm = self.calm and type(error) is StopIteration
        if id(error) in self.describing:
            return name
        self.describing.add(id(error))
        is_stop = type(error) is StopIteration
        try:
            return (
                name,
                *self.class_and_args(error),
                self.label(getattr(error, "value", None)),
                name != "handled" and self.traceback_of(error),
                ("cause", self.describe(error.__cause__)),
                # Named difference: the StopIteration that a native coroutine ends with
                # has a context up to some 3.13.x; ours has none.
                ("context", not is_stop and self.describe_context(error)),
                error.__suppress_context__,
            )
        finally:
            self.describing.remove(id(error))

    def class_and_args(self, error):
        """Return the class and the arguments of `error`.

        Named difference: up to 3.12 a native coroutine whose throw() or close() is
        under way says to who awaits it that it is being awaited already. The C says
        that it is executing, as native ones do since 3.13.
        """
        name = type(error).__qualname__
        if self.has_caller and sys.version_info < (3, 13):
            if (name, error.args) in REFUSED:
                return "refused", ()
        return name, tuple(map(self.label, same_words(error.args)))

    def describe_context(self, error):
        """Return what is seen of the context of `error`.

        Named difference: up to 3.11 a native coroutine in its `finally` closes what it
        drops before the exception that it handles is in force again, the C after. What
        is pinned is not closed then.
        """
        is_early = self.is_ending and sys.version_info < (3, 12)
        if is_early and self.has_finally and not self.has_one and not self.pinned:
            return "not compared"
        return self.describe(error.__context__)

    def traceback_of(self, error):
        """Return the names of the functions in the traceback of `error`.

        Named difference: 3.11 loses what came from deeper down when an exception
        leaves a `finally` that handles another one. The C keeps it, as 3.12 does.
        """
        names = traceback_names(error.__traceback__)
        lost = sys.version_info < (3, 12) and error.__context__ is not None
        if lost and "countdown" in names:
            return names[: names.index("countdown") + 1]
        return names

    # what happens

    def log(self, thing, event, *args):
        """Tell the world that `event` happens to `thing`; re-enter if it is time."""
        glimpse = self.glimpse() if event not in UNSEEN else None
        self.events.append((self.label(thing), event, *map(self.label, args), glimpse))
        operation = self.reentries.pop(event, None)
        if operation is not None:
            self.events.append(("re-entry", operation, *self.perform(self, operation)))

    def glimpse(self, in_step=True):
        """Return the state of the coroutine as it is seen from outside or in a step.

        Up to 3.12 to ask a native coroutine for cr_await in the midst of its step may
        end the process: it takes anything on its stack for what it awaits.
        """
        subject = self.subject
        if subject is None:
            return None
        if in_step and sys.version_info < (3, 13):
            awaited = "not asked"
        else:
            awaited = self.label(subject.cr_await)
        return (
            subject.cr_running,
            subject.cr_suspended,
            awaited,
            subject.cr_frame is None,
            getattr(subject, "cr_state", None),
        )

    # what is made

    def value(self, kind):
        return VALUES[kind](self) if kind in VALUES else kind

    def error(self, kind, *args):
        """Return a new exception that has a name."""
        error = ERRORS[kind](*(args or ("message",)))
        error.name_here = self.new_name("error")
        return error

    def make(self, spec):
        """Return a new awaitable, or what else `spec` says."""
        kind, *args = spec
        thing = MAKERS[kind](self, *args)
        if self.pinned and thing is not self.subject:
            self.pins.append(thing)
        return thing

    def make_subject(self, spec):
        """Make the coroutine that the scenario is about, which is never pinned."""
        kind, *args = spec
        self.subject = MAKERS[kind](self, *args)
        self.pins = [pin for pin in self.pins if pin is not self.subject]


def traceback_names(traceback):
    """Return the names of the functions in a traceback."""
    names = []
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    return tuple(names)


def forget(error):
    """Drop the tracebacks of `error` and what it came from.

    They hold the frames of the twin, and with them its operands, which the C has
    let go by then: its frames are only for showing.
    """
    errors, known = [error], set()
    while errors:
        error = errors.pop()
        if isinstance(error, BaseException) and id(error) not in known:
            known.add(id(error))
            error.__traceback__ = None
            errors += error.__cause__, error.__context__, *error.args


# Values


class Thing:
    """A value with a name, which tells when it dies."""

    def __init__(self, world, kind="thing"):
        self.world = world
        world.name(self, kind)

    def __repr__(self):
        return str(self.world.label(self))

    def __del__(self):
        self.world.log(self, "del")


class Adder(Thing):
    """A value whose + does `act`."""

    def __init__(self, world, act):
        super().__init__(world, "adder")
        self.act = act

    def __add__(self, other):
        self.world.log(self, "add", other)
        return act(self.world, self.act)

    __radd__ = __add__


class Index(Thing):
    """A number for range() that does `act` first."""

    def __init__(self, world, number, act):
        super().__init__(world, "index")
        self.number, self.act = number, act

    def __index__(self):
        self.world.log(self, "index")
        act(self.world, self.act)
        return self.number


def act(world, action):
    """Return or raise what `action` says."""
    what, kind = action
    if what == "return":
        return world.value(kind)
    raise world.error(kind)


VALUES = {
    "thing": Thing,
    "adder": lambda world: Adder(world, ("return", "thing")),
    "bad adder": lambda world: Adder(world, ("raise", "ValueError")),
    "adder that stops": lambda world: Adder(world, ("raise", "StopIteration")),
    "not implemented": lambda world: Adder(world, ("return", NotImplemented)),
    "an error": lambda world: world.error("ValueError"),
    "a stop": lambda world: world.error("StopIteration", "value"),
    "a class": lambda world: ValueError,
    "StopIteration class": lambda world: StopIteration,
    "a pair": lambda world: (1, 2),
    "no items": lambda world: (),
}


# Bodies: a native coroutine and a generator that follow the same plan


@types.coroutine
def yield_item(item):
    return (yield item)


class Local(Thing):
    """What a body keeps in a variable, to tell when its frame dies."""


async def native(world, token, items, reaction, ending):
    world.log(token, "body")
    items = list(items)
    while items:
        try:
            received = await yield_item(world.value(items.pop(0)))
            world.log(token, "received", received)
        except BaseException as error:
            world.log(token, "caught", error)
            if reaction == "raise":
                raise
            if reaction == "wait":
                await yield_item("while handling")
                raise
            if reaction == "replace":
                raise world.error("ValueError") from None
            if reaction == "replace, from":
                raise world.error("ValueError") from error
            if reaction == "stop":
                raise world.error("StopIteration")  # noqa: B904
            if reaction == "return":
                return 14
            if reaction == "yield":
                items.insert(0, "ignored")
        finally:
            world.log(token, "finally")
    return act(world, ending)


def plain_generator(world, token, items, reaction, ending):
    world.log(token, "body")
    items = list(items)
    while items:
        try:
            received = yield world.value(items.pop(0))
            world.log(token, "received", received)
        except BaseException as error:
            world.log(token, "caught", error)
            if reaction == "raise":
                raise
            if reaction == "wait":
                yield "while handling"
                raise
            if reaction == "replace":
                raise world.error("ValueError") from None
            if reaction == "replace, from":
                raise world.error("ValueError") from error
            if reaction == "stop":
                raise world.error("StopIteration")  # noqa: B904
            if reaction == "return":
                return 14
            if reaction == "yield":
                items.insert(0, "ignored")
        finally:
            world.log(token, "finally")
    return act(world, ending)


# types.coroutine() marks the function that it is given, so it is given a copy.
generator = types.coroutine(types.FunctionType(plain_generator.__code__, globals()))
REACTIONS = (
    "raise",
    "wait",
    "replace",
    "replace, from",
    "stop",
    "return",
    "yield",
    "go on",
)


def make_body(function, kind):
    def make(world, items, reaction, ending):
        token = Local(world, f"local of {kind}")
        body = world.name(function(world, token, items, reaction, ending), kind)
        body.__qualname__ = world.label(body)
        return body

    return make


# Iterators in Python, with and without send, throw and close


class Steps(Thing):
    """An iterator that yields `items` and ends with `ending`."""

    def __init__(self, world, items, ending):
        super().__init__(world, "iterator")
        self.items, self.ending = list(items), ending

    def __iter__(self):
        return self

    def __next__(self):
        self.world.log(self, "next")
        return self.go_on()

    def go_on(self):
        if self.items:
            return self.world.value(self.items.pop(0))
        value = act(self.world, self.ending)
        raise StopIteration(value)


def takes(self, value):
    self.world.log(self, "send", value)
    return self.go_on()


# An argument that is raised holds its traceback, which holds the frame: a cycle, if
# the frame still held the argument.


def raises(method, error):
    def raise_(self, *args):
        self.world.log(self, method, *args)
        del args
        raise self.world.error(error)

    return raise_


def throws_again(self, *args):
    self.world.log(self, "throw", *args)
    try:
        raise args[0]
    finally:
        del args


def throws_ignored(self, *args):
    self.world.log(self, "throw", *args)
    return self.go_on()


def throws_yield(self, *args):
    self.world.log(self, "throw", *args)
    return "ignored"


def throws_return(self, *args):
    self.world.log(self, "throw", *args)
    raise StopIteration(14)


def closes(self, *args):
    self.world.log(self, "close", *args)
    return "what close returns"


def unreadable(method, error):
    def get(self):
        self.world.log(self, f"get {method}")
        raise self.world.error(error)

    return property(get)


def common_methods(method):
    return {
        "missing": None,
        "raises": raises(method, "ValueError"),
        "raises StopIteration": raises(method, "StopIteration"),
        "raises GeneratorExit": raises(method, "GeneratorExit"),
        "raises AttributeError": raises(method, "AttributeError"),
        "unreadable": unreadable(method, "ValueError"),
        "stops when read": unreadable(method, "StopIteration"),
        "exits when read": unreadable(method, "GeneratorExit"),
        "hidden": unreadable(method, "AttributeError"),
        "not callable": 14,
    }


METHODS = {
    "send": {"takes": takes, **common_methods("send")},
    "throw": {
        "again": throws_again,
        "ignores": throws_ignored,
        "yields": throws_yield,
        "returns": throws_return,
        **common_methods("throw"),
    },
    "close": {"closes": closes, **common_methods("close")},
}


def await_itself(self):
    self.world.log(self, "await")
    return self


@functools.cache
def steps_class(send, throw, close, awaits_itself):
    """Return a class of iterators that has the methods of these kinds."""
    methods = {
        "send": METHODS["send"][send],
        "throw": METHODS["throw"][throw],
        "close": METHODS["close"][close],
        "__await__": await_itself if awaits_itself else None,
    }
    methods = {name: method for name, method in methods.items() if method}
    return type("Steps", (Steps,), methods)


# Awaitables in Python


class Awaitable(Thing):
    """An awaitable whose __await__ gives what `give` gives."""

    def __init__(self, world, give):
        super().__init__(world, "awaitable")
        self.give = give

    def __await__(self):
        self.world.log(self, "await")
        return self.give()


class NoAwait:
    __await__ = None


def make_iterator(world, methods, items, ending):
    iterator = steps_class(*methods, False)(world, items, ending)
    give = [iterator].pop
    del iterator
    return Awaitable(world, give)


def make_iterator_itself(world, methods, items, ending):
    return steps_class(*methods, True)(world, items, ending)


def make_list(world, items):
    return Awaitable(world, lambda: iter([world.value(item) for item in items]))


def make_plain_generator(world, items, reaction, ending):
    def give():
        token = Local(world, "local of generator")
        return world.name(
            plain_generator(world, token, items, reaction, ending), "generator"
        )

    return Awaitable(world, give)


def make_gives(world, what):
    return Awaitable(world, lambda: GIVES[what](world))


GIVES = {
    "an int": lambda world: 3,
    "None": lambda world: None,
    "an iterable": lambda world: [1],
    "a class": lambda world: Steps,
    "a coroutine": lambda world: world.make(("native", (), "raise", ("return", 1))),
    "a generator-based coroutine": lambda world: world.make(
        ("generator", (), "raise", ("return", 1))
    ),
    "the iterator of a coroutine": lambda world: world.make(
        ("native", (1, 2), "wait", ("return", 1))
    ).__await__(),
    "the iterator of the caller": lambda world: world.subject.__await__(),
}


def make_await_raises(world, error):
    def give():
        raise world.error(error)

    return Awaitable(world, give)


NOT_AWAITABLE = {
    "an int": lambda: 3,
    "None": lambda: None,
    "a type": lambda: Awaitable,
    "a function": lambda: make_list,
    "__await__ is None": NoAwait,
    "a list iterator": lambda: iter([1]),
}


# Awaitables in C


def make_future(world, state):
    future = world.name(world.loop.create_future(), "future")
    if state == "done":
        future.set_result(1)
    elif state == "failed":
        future.set_exception(world.error("ValueError"))
    elif state == "cancelled":
        future.cancel("cancel message")
    elif state == "pending":
        world.future = weakref.ref(future)
    return future


async def counter(world, token, items, reaction, ending):
    """An async generator that follows the plan before its first item."""
    yield await native(world, token, items, reaction, ending)
    world.log(token, "second item")
    yield 14


def make_async_generator(world, method, items, reaction, ending):
    token = Local(world, "local of async generator")
    numbers = world.name(counter(world, token, items, reaction, ending), "async gen")
    match method:
        case "anext":
            return numbers.__anext__()
        case "asend":
            return numbers.asend(None)
        case "default":
            return anext(numbers, 14)
        case "aclose":
            return numbers.aclose()
        case "athrow":
            return numbers.athrow(world.error("ValueError"))


# Coroutines that are in no state to be awaited


def make_used(world, state):
    coroutine = world.make(("native", (1, 2), "raise", ("return", 1)))
    if state == "closed":
        coroutine.close()
    elif state == "suspended":
        coroutine.send(None)
    elif state == "being awaited":
        awaiting = world.name(awaits([coroutine]), "awaits")
        awaiting.send(None)
        world.other = awaiting
    elif state == "finished":
        for _ in range(3):
            try:
                coroutine.send(None)
            except StopIteration:
                pass
    return coroutine


# They take what they await from a list, so that their frames have no variable that
# holds it. A traceback that the C handles holds the frame of who awaits it, and one
# that it passes on holds frames of which 3.11 loses those of the twin.


async def awaits(given):
    return await given.pop()


@types.coroutine
def yields_from(given):
    return (yield from given.pop())


# add and countdown themselves


class Tick(Thing):
    """What countdown calls: gives one awaitable after the other."""

    def __init__(self, world, specs):
        super().__init__(world, "tick")
        self.specs = list(specs)

    def __call__(self, *args):
        self.world.log(self, "tick", *args)
        if not self.specs:
            return Echo(None)
        return self.world.make(self.specs.pop(0))


def make_add(world, a, b):
    left = world.make(a)
    right = left if b == ("the same",) else world.make(b)
    return world.name(world.functions["add"](left, right), "add")


def make_number(world, number):
    if isinstance(number, tuple):
        return Index(world, *number)
    return world.value(number)


def make_countdown(world, number, ticks):
    tick = Tick(world, ticks) if isinstance(ticks, tuple) else world.value(ticks)
    number = make_number(world, number)
    return world.name(world.functions["countdown"](number, tick), "countdown")


def make_raises(world, error):
    raise world.error(error)


MAKERS = {
    "native": make_body(native, "native"),
    "generator": make_body(generator, "generator"),
    "plain generator": make_plain_generator,
    "iterator": make_iterator,
    "itself": make_iterator_itself,
    "list": make_list,
    "gives": make_gives,
    "await raises": make_await_raises,
    "not awaitable": lambda world, what: NOT_AWAITABLE[what](),
    "echo": lambda world, value: Echo(world.value(value)),
    "relay": lambda world, spec: Relay(world.make(spec)),
    "future": make_future,
    "async generator": make_async_generator,
    "used": make_used,
    "the caller": lambda world: world.subject,
    "add": make_add,
    "countdown": make_countdown,
    "raises": make_raises,
    "awaits": lambda world, spec: world.name(awaits([world.make(spec)]), "awaits"),
}
FUTURES = ("pending", "done", "failed", "cancelled")
USED = ("closed", "suspended", "being awaited", "finished")
ASYNC_GENERATOR = ("anext", "asend", "default", "aclose", "athrow")
