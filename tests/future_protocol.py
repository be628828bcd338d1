"""What asyncio asks of a future: the rows of the table in chapter 3.

Each row is a future in Python that lacks one thing, and what comes of that.
"""

import asyncio
import sys

import pytest
from conftest import load_model

model = load_model("thread_woken_future")
hanging = []  # tasks, which nobody shall see destroyed


class Lacking(model.Future):
    """A future without the attribute `lacks`, except for its own methods."""

    lacks = None

    def __getattribute__(self, name):
        if name == type(self).lacks:
            if sys._getframe(1).f_code.co_filename != model.__file__:
                raise AttributeError(name)
        return super().__getattribute__(name)


def without(name):
    return type("Lacking", (Lacking,), {"lacks": name})


class Unflagged(model.Future):
    """A future that does not set the flag."""

    def __await__(self):
        yield self
        return self.result()


class NoFuture:
    """An awaitable that yields itself, and has no flag."""

    def __await__(self):
        yield self


class Unawaitable(model.Future):
    __await__ = None


class Direct(model.Future):
    """A future that calls its callbacks itself."""

    def _finish(self, status, outcome):
        self._status, self._outcome = status, outcome
        for callback, context in self._to_call:
            context.run(callback, self)


class Contextless(model.Future):
    def add_done_callback(self, callback, /):
        super().add_done_callback(callback)


### Who waits
async def by_await(future):
    return await future


async def by_gather(future):
    return await asyncio.gather(future)


async def by_gather_returning(future):
    return await asyncio.gather(future, return_exceptions=True)


async def by_wait(future):
    done, _ = await asyncio.wait([future])
    return len(done)


async def by_shield(future):
    return await asyncio.shield(future)


async def by_wait_for(future):
    return await asyncio.wait_for(future, 60)


async def by_as_completed(future):
    for each in asyncio.as_completed([future]):
        return await each


### What comes of it
def listening_loop():
    """Return a new loop, and a list of what its exception handler is told."""
    loop = asyncio.new_event_loop()
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(context))
    return loop, told


async def settle():
    """Let the loop call all that is due."""
    for _ in range(20):
        await asyncio.sleep(0)


def outcome(kind, wait, end):
    """Return how a task ends that waits for a future, and what the loop was told.

    end(future, task) is called when the task waits, in another task.
    """
    loop, told = listening_loop()

    async def finish(future, task):
        end(future, task)

    async def main():
        future = kind()
        task = loop.create_task(wait(future))
        await settle()
        ended = await asyncio.gather(
            loop.create_task(finish(future, task)), return_exceptions=True
        )
        await settle()
        if not task.done():
            hanging.append(task)
            return "hangs", ended[0]
        try:
            return task.result(), ended[0]
        except (Exception, asyncio.CancelledError) as error:
            return error, ended[0]

    try:
        result = loop.run_until_complete(main())
    finally:
        loop.close()
    return *result, told


def succeed(future, task):
    future.set_result(49)


def fail(future, task):
    future.set_exception(KeyError("x"))


def cancel(future, task):
    future.cancel()


def cancel_task(future, task):
    task.cancel()


### The rows of the table
HANGS = "hangs"
EAGER_GATHER = sys.version_info >= (3, 12)  # it looks for what is done already
BY_AWAIT = [
    (NoFuture, "Task got bad yield"),
    (Unflagged, "yield was used instead of yield from"),
    (Unawaitable, "'NoneType' object is not callable"),
]
HANGING = [
    ("get_loop", by_await, succeed),
    ("add_done_callback", by_await, succeed),
    (Contextless, by_await, succeed),
    ("result", by_gather, succeed),
    ("result", by_shield, succeed),
    ("exception", by_gather, succeed),
    ("exception", by_shield, fail),
    ("cancelled", by_gather, succeed),
    ("cancelled", by_shield, fail),
    ("_make_cancelled_error", by_gather, cancel),
    ("_cancel_message", by_gather_returning, cancel),
]
RAISING = [
    *[("get_loop", wait) for wait in (by_gather, by_shield, by_as_completed)],
    *[("add_done_callback", wait) for wait in (by_gather, by_wait, by_shield)],
    ("remove_done_callback", by_wait),
    *[("result", wait) for wait in (by_await, by_wait_for, by_as_completed)],
    *[("done", wait) for wait in (by_wait, by_shield)],
    *[("done", by_gather)] * EAGER_GATHER,
]
NEEDED = [
    "get_loop",
    "add_done_callback",
    "remove_done_callback",
    "result",
    "exception",
    "cancelled",
    "done",
    "cancel",
    "_make_cancelled_error",
    "_cancel_message",
]


def make(lacks):
    return without(lacks) if isinstance(lacks, str) else lacks


def name(value):
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize("wait", [by_await, by_gather, by_wait, by_shield], ids=name)
@pytest.mark.parametrize("end", [succeed, fail, cancel, cancel_task], ids=name)
def test_a_future_that_lacks_nothing_ends_all_waiting(wait, end):
    result, ended, told = outcome(without("nothing"), wait, end)
    assert result != HANGS
    assert ended is None
    assert not told or (wait, end) == (by_wait, fail)  # who does not ask for it


@pytest.mark.parametrize(("lacks", "message"), BY_AWAIT, ids=name)
def test_await_refuses_what_is_no_future(lacks, message):
    error, *_ = outcome(lacks, by_await, cancel_task)
    assert str(error).startswith(message)


@pytest.mark.parametrize(("lacks", "wait", "end"), HANGING, ids=name)
def test_who_waits_for_a_future_that_lacks_a_name_hangs(lacks, wait, end):
    result, ended, told = outcome(make(lacks), wait, end)
    assert (result, ended) == (HANGS, None)
    assert [type(each["exception"]) for each in told] == [
        TypeError if lacks is Contextless else AttributeError
    ]


@pytest.mark.parametrize(("lacks", "wait"), RAISING, ids=name)
def test_who_waits_for_a_future_that_lacks_a_name_gets_an_error(lacks, wait):
    error, ended, _ = outcome(make(lacks), wait, succeed)
    assert (type(error), ended) == (AttributeError, None)


def test_a_callback_that_is_called_directly_cannot_enter_the_task():
    result, ended, _ = outcome(Direct, by_await, succeed)
    assert result == HANGS
    assert str(ended).startswith("Cannot enter into task")


def test_a_task_that_waits_for_what_has_no_cancel_cannot_be_cancelled():
    result, ended, _ = outcome(without("cancel"), by_await, cancel_task)
    assert result == HANGS
    assert isinstance(ended, AttributeError)


@pytest.mark.parametrize("lacks", NEEDED)
def test_run_until_complete_of_a_future_that_lacks_a_name(lacks):
    loop, told = listening_loop()
    future = without(lacks)(loop=loop)
    loop.call_soon(future.set_result, 49)
    turns = []

    def stop():
        turns.append(loop)
        loop.stop() if len(turns) == 20 else loop.call_soon(stop)

    loop.call_soon(stop)
    try:
        ended = loop.run_until_complete(future)
    except AttributeError as error:
        ended = type(error)
    loop.close()
    runs_for_ever = lacks in ("exception", "cancelled")
    assert runs_for_ever == (len(turns) == 20)
    assert [type(each["exception"]) for each in told] == [
        AttributeError
    ] * runs_for_ever
    is_not_asked = runs_for_ever or lacks.startswith(("cancel", "_"))
    assert ended == (49 if is_not_asked else AttributeError)
