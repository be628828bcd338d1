"""Random trees of awaitables, and what driving them must lead to.

A tree is plain data, so that it can be built anew for each driver; `build` makes the
awaitable, which appends to `log` what happens in it.
"""

import asyncio
import re
import types

from hypothesis import strategies as st

NASTY = [None, (), (1, 2), 3, ValueError, ValueError("v"), StopIteration(4)]
ERRORS = [ValueError, RuntimeError, KeyError, StopIteration, asyncio.CancelledError]
BARE = None


class Awaitable:
    """An awaitable whose __await__ is `function`."""

    def __init__(self, function):
        self.function = function

    def __await__(self):
        return self.function()


class Steps:
    """An iterator in Python without send, throw or close."""

    def __init__(self, items, result):
        self.items, self.result = list(items), result

    def __iter__(self):
        return self

    def __next__(self):
        if self.items:
            return self.items.pop(0)
        raise StopIteration(self.result)


@types.coroutine
def yield_item(item, log):
    log.append(("sent", (yield item)))
    return item


@types.coroutine
def delegate_generator(awaitable):
    return (yield from Awaitable(lambda: iterate(awaitable)).__await__())


def iterate(awaitable):
    """Await in a generator: the body of an __await__ in Python."""

    async def body():
        return await awaitable

    return (yield from body().__await__())


async def returns(value):
    return value


async def raises(error, log):
    log.append(("raises", error.__name__))
    raise error("from the tree")


async def sequence(nodes, log):
    results = []
    for node in nodes:
        results.append(await build(node, log))
        log.append(("got", repr(results[-1])))
    return results[-1] if results else None


async def catches(node, handler, log):
    try:
        return await build(node, log)
    except Exception as error:
        log.append(("caught", described(error)))
        return await build(handler, log)


async def cleans_up(node, cleanup, log):
    try:
        return await build(node, log)
    finally:
        log.append("cleanup")
        await build(cleanup, log)


async def delegate_coroutine(awaitable):
    return await awaitable


def build(tree, log):
    """Return a fresh awaitable for `tree`."""
    kind, *args = tree
    match kind:
        case "value":
            return returns(args[0])
        case "raise":
            return raises(args[0], log)
        case "yield":
            return yield_item(args[0], log)
        case "c iterator":
            return Awaitable(lambda: iter(args[0]))
        case "python iterator":
            return Awaitable(lambda: Steps(*args))
        case "not awaitable":
            return args[0]
        case "not an iterator":
            return Awaitable(lambda: args[0])
        case "wrap":
            return WRAPPERS[args[0]](build(args[1], log))
        case "sequence":
            return sequence(args[0], log)
        case "catches":
            return catches(*args, log)
        case "cleans up":
            return cleans_up(*args, log)
    raise AssertionError(tree)


WRAPPERS = {
    "coroutine": delegate_coroutine,
    "generator": delegate_generator,
    "__await__": lambda awaitable: Awaitable(lambda: iterate(awaitable)),
}
items = st.lists(st.sampled_from([BARE, BARE, BARE, BARE, 14, "", 0]), max_size=4)
values = st.sampled_from(NASTY)
leaves = st.one_of(
    st.tuples(st.just("value"), values),
    st.tuples(st.just("raise"), st.sampled_from(ERRORS)),
    st.tuples(st.just("yield"), st.sampled_from([BARE, BARE, BARE, 14, "", False])),
    st.tuples(st.just("c iterator"), items),
    st.tuples(st.just("python iterator"), items, values),
    st.tuples(st.just("not awaitable"), st.sampled_from([3, None, int])),
    st.tuples(st.just("not an iterator"), st.sampled_from([3, None, [1]])),
)
trees = st.recursive(
    leaves,
    lambda nodes: st.one_of(
        st.tuples(st.just("wrap"), st.sampled_from(sorted(WRAPPERS)), nodes),
        st.tuples(st.just("sequence"), st.lists(nodes, max_size=4)),
        st.tuples(st.just("catches"), nodes, nodes),
        st.tuples(st.just("cleans up"), nodes, nodes),
    ),
    max_leaves=12,
)


def described(error):
    """Return an exception and what it came from, in words without our names.

    A Task refuses a yield in its own words, and versions of Python differ in
    what they say of a wrong type.
    """
    if error is None:
        return None
    text = str(error)
    refused = re.search(r"waiting for (.*) needs an event loop", text)
    refused = refused or re.search(r"Task got bad yield: (.*)", text)
    if refused:
        text = f"refused {refused[1]}"
    elif isinstance(error, TypeError):
        text = "wrong type"
    return (
        type(error).__name__,
        text,
        described(error.__context__),
        described(error.__cause__),
    )


def outcome(tree, driver, top=delegate_coroutine):
    """Return how `driver` ended with `tree`, and the log of what happened."""
    log = []
    try:
        ended = ("result", repr(driver(top(build(tree, log)))))
    except BaseException as error:
        ended = ("error", described(error))
    return ended, log
