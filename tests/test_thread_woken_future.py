"""Chapter 3: futures that threads complete, in the model and in C."""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import operator
import sys
import threading
import weakref

import pytest
from conftest import import_or_skip, load_model, loop_in_a_thread

native = pytest.importorskip("thread_woken_future", reason="run: python3 run.py test")
from cpython_futures import (  # noqa: E402, F401 (they need the C)
    test_a_future_has_to_pass_most_tests_of_cpython,
    test_a_future_passes_the_tests_of_cpython_but_for_the_named,
)
from future_protocol import (  # noqa: E402, F401
    test_a_callback_that_is_called_directly_cannot_enter_the_task,
    test_a_future_that_lacks_nothing_ends_all_waiting,
    test_a_task_that_waits_for_what_has_no_cancel_cannot_be_cancelled,
    test_await_refuses_what_is_no_future,
    test_run_until_complete_of_a_future_that_lacks_a_name,
    test_who_waits_for_a_future_that_lacks_a_name_gets_an_error,
    test_who_waits_for_a_future_that_lacks_a_name_hangs,
)
from threads_and_ends import (  # noqa: E402, F401
    test_a_pending_future_changes_nothing_at_the_end_of_the_process,
    test_a_python_that_warns_of_everything_has_nothing_to_say,
    test_a_subinterpreter_may_be_left_to_the_end_of_the_process,
    test_another_loop_refuses_the_future,
    test_fork,
    test_nothing_leaks,
    test_subinterpreters,
    test_the_end_of_a_future_may_race_with_its_thread,
    test_the_end_of_the_process_is_the_same_each_time,
    test_two_loops_run_in_a_row,
    test_two_loops_run_in_two_threads,
    test_two_threads_may_use_one_future,
    test_when_the_interpreter_ends_no_thread_starts,
    test_without_a_thread_a_call_fails_and_loses_nothing,
    test_without_memory_a_call_fails_and_loses_nothing,
)

model = load_model("thread_woken_future")

KINDS = {
    "asyncio": asyncio.Future,
    "model": model.Future,
    "model-subclassed": model.SubclassedFuture,
    "native": native.Future,
    "native-subclassed": native.SubclassedFuture,
}
SQUARES = {
    "model": model.square,
    "model-subclassed": model.subclassed_square,
    "native": native.square,
    "native-subclassed": native.subclassed_square,
}
HANDMADE = {"model": model.Future, "native": native.Future}


@pytest.fixture(params=KINDS)
def kind(request):
    """A type of futures; asyncio's own is the control."""
    return KINDS[request.param]


@pytest.fixture(params=SQUARES)
def square(request):
    return SQUARES[request.param]


@pytest.fixture(params=HANDMADE)
def handmade(request):
    return HANDMADE[request.param]


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def turn(loop, times=3):
    """Let the loop call what is due."""
    for _ in range(times):
        loop.call_soon(loop.stop)
        loop.run_forever()


def problems(loop):
    """Return the list to which the loop's exception handler will write."""
    heard = []
    loop.set_exception_handler(lambda loop, context: heard.append(context))
    return heard


def outcome(function, *args):
    try:
        return function(*args)
    except BaseException as error:
        return type(error), error.args


def is_native(kind):
    return kind.__module__ == "thread_woken_future"


def new_uvloop():
    return import_or_skip("uvloop").new_event_loop()


async def threads_ended():
    """Wait until no thread of the C is left."""
    async with asyncio.timeout(60):
        while native.count_threads():
            await asyncio.sleep(0.001)


# square


def test_a_square_comes(square):
    async def main():
        assert await square(7, 0) == 49
        assert await square(-3, delay=0.001) == 9
        assert await square(x=5, delay=0) == 25
        return await asyncio.gather(*[square(i, 0.01) for i in range(20)])

    assert asyncio.run(main()) == [i * i for i in range(20)]


LARGEST = 3037000499  # the root of 2**63 - 1


@pytest.mark.parametrize("x", [LARGEST, -LARGEST, LARGEST + 1, -LARGEST - 1])
def test_a_square_that_does_not_fit_is_an_error_of_the_future(square, x):
    async def main():
        return await square(x, 0)

    if abs(x) == LARGEST:
        assert asyncio.run(main()) == x * x
    else:
        with pytest.raises(OverflowError, match="does not fit into a C long long"):
            asyncio.run(main())


@pytest.mark.parametrize("x", [2**63 - 1, -(2**63)])
def test_the_extremes_of_long_long_are_accepted(square, x):
    async def main():
        with pytest.raises(OverflowError, match="square"):
            await square(x, 0)

    asyncio.run(main())


NAN, INFINITE = float("nan"), float("inf")
WRONG = [
    ([], TypeError),
    ([1, 0, 0], TypeError),
    (["1"], TypeError),
    ([1.0], TypeError),
    ([None], TypeError),
    ([2**63], OverflowError),
    ([-(2**63) - 1], OverflowError),
    ([1, None], TypeError),
    ([1, -0.001], ValueError),
    ([1, NAN], ValueError),
    ([1, INFINITE], ValueError),
    ([1, -INFINITE], ValueError),
    ([1, 1e300], ValueError),
    ([1, 10**9 + 1], ValueError),
]


@pytest.mark.parametrize(("args", "error"), WRONG)
def test_wrong_arguments_are_an_error_of_the_call(square, args, error):
    async def main():
        with pytest.raises(error):
            square(*args)
        assert native.count_threads() == 0

    asyncio.run(main())


def test_square_needs_a_running_loop(square, loop):
    with pytest.raises(RuntimeError, match="no running event loop"):
        square(1, 0)
    assert native.count_threads() == 0


def test_what_has_an_index_can_be_squared(square):
    class Index:
        def __index__(self):
            return 4

    async def main():
        return await square(Index(), 0)

    assert asyncio.run(main()) == 16


# Stopping the thread

ENDS = {
    "cancel": lambda future: future.cancel(),
    "result": lambda future: future.set_result(1),
    "exception": lambda future: future.set_exception(KeyError()),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_is_done_otherwise_ends_the_thread(end):
    async def main():
        future = native.square(3, 3600)
        assert native.count_threads() == 1
        ENDS[end](future)
        await threads_ended()
        return outcome(future.result)

    asyncio.run(main())


def test_cancelling_a_subclassed_future_ends_the_thread():
    async def main():
        future = native.subclassed_square(3, 3600)
        assert native.count_threads() == 1
        assert future.cancel("why")
        await threads_ended()
        assert not future.cancel()
        with pytest.raises(asyncio.CancelledError, match="why"):
            await future

    asyncio.run(main())


def test_cancelling_a_task_ends_the_thread(square):
    async def main():
        task = asyncio.create_task(wait_for(square(3, 3600)))
        await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await task
        await threads_ended()

    asyncio.run(main())


async def wait_for(future):
    return await future


def test_a_completion_that_is_late_is_dropped(square):
    async def main():
        heard = problems(asyncio.get_running_loop())
        for _ in range(50):
            future = square(3, 0)
            while future.get_loop() and native.count_threads():
                pass  # the loop does not turn: the completion is under way
            future.cancel()
            await asyncio.sleep(0)
            assert future.cancelled()
        await asyncio.sleep(0.01)
        assert heard == []

    asyncio.run(main())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, new_uvloop])
def test_a_future_whose_loop_is_closed_stays_pending(square, new_loop, capfd):
    async def start():
        return square(3, 0.02)

    futures = []
    for _ in range(3):
        loop = new_loop()
        futures.append(loop.run_until_complete(start()))
        loop.close()

    async def wait():
        await threads_ended()

    asyncio.run(wait())
    assert not any(future.done() for future in futures)
    del futures
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_a_loop_that_refuses_to_be_woken_is_reported(capsys, monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: heard.append(args))

    async def main():
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_soon_threadsafe", None, raising=False)
        future = native.square(3, 0)
        while native.count_threads():
            await asyncio.sleep(0.001)
        monkeypatch.undo()
        return repr(future)

    assert asyncio.run(main()) == "<Future pending>"
    assert [each.exc_type for each in heard] == [TypeError]


def test_a_dropped_square_still_has_its_thread(square):
    async def main():
        ref = weakref.ref(square(3, 0.01))
        await threads_ended()
        await asyncio.sleep(0.05)
        gc.collect()
        assert ref() is None

    asyncio.run(main())


# What a future is


def test_state_result_and_exception(kind, loop):
    future = kind(loop=loop)
    assert (future.done(), future.cancelled()) == (False, False)
    assert future.get_loop() is loop
    with pytest.raises(asyncio.InvalidStateError):
        future.result()
    with pytest.raises(asyncio.InvalidStateError):
        future.exception()
    future.set_result(None)
    assert (future.done(), future.cancelled()) == (True, False)
    assert future.result() is None is future.exception()
    for again in future.set_result, future.set_exception:
        with pytest.raises(asyncio.InvalidStateError):
            again(KeyError())
    assert future.cancel() is False


GIVEN = [
    KeyError("k"),
    KeyError,
    asyncio.CancelledError("c"),
    GeneratorExit(),
    StopIteration(1),
    StopIteration,
    StopAsyncIteration,
    3,
    None,
    int,
    "text",
]


@pytest.mark.parametrize("given", GIVEN, ids=repr)
@pytest.mark.parametrize("name", [name for name in KINDS if name != "asyncio"])
def test_what_set_exception_is_given_does_what_it_does_to_asyncio(name, given, loop):
    ours, theirs = KINDS[name](loop=loop), asyncio.Future(loop=loop)
    done = [outcome(each.set_exception, given) for each in (ours, theirs)]
    assert done[0] == done[1]
    assert ours.done() == theirs.done()
    if ours.done():
        errors = [each.exception() for each in (ours, theirs)]
        assert [*map(type, errors)] == [type(errors[0])] * 2
        assert [error.args for error in errors] == [errors[0].args] * 2
        causes = [repr(error.__cause__) for error in errors]
        assert causes[0] == causes[1]


@pytest.mark.parametrize("message", [None, "why", 3, ""])
def test_cancel_has_a_message(kind, loop, message):
    future = kind(loop=loop)
    assert future.cancel(message) is True
    assert future.cancelled() and future.done()
    assert future._cancel_message == message
    args = () if message is None else (message,)
    for ask in future.result, future.exception:
        with pytest.raises(asyncio.CancelledError) as caught:
            ask()
        assert caught.value.args == args
    assert future._make_cancelled_error().args == args
    assert future.cancel(msg="again") is False


def test_the_error_of_a_future_that_is_not_cancelled_has_no_message(kind, loop):
    future = kind(loop=loop)
    assert future._make_cancelled_error().args == ()
    assert future._cancel_message is None
    future.set_result(7)
    assert future._make_cancelled_error().args == ()
    assert future._cancel_message is None


def test_wrong_arguments_of_methods(kind, loop):
    future = kind(loop=loop)
    for call in [
        lambda: kind(loop),
        lambda: kind(lop=loop),
        lambda: future.cancel(1, 2),
        lambda: future.cancel(message=1),
        lambda: future.add_done_callback(),
        lambda: future.add_done_callback(print, None),
        lambda: future.remove_done_callback(),
        lambda: future.set_result(),
        lambda: future.set_exception(),
        lambda: future.done(1),
    ]:
        with pytest.raises(TypeError):
            call()


def test_a_future_without_a_loop_takes_the_running_one(kind):
    async def main():
        assert kind().get_loop() is asyncio.get_running_loop()
        assert kind(loop=None).get_loop() is asyncio.get_running_loop()

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="a loop is made up to 3.13")
def test_a_future_without_any_loop_is_refused(kind):
    with pytest.raises(RuntimeError, match="no current event loop"):
        kind()


def test_repr(kind, loop):
    name = kind.__name__
    pending, cancelled, done, failed = [kind(loop=loop) for _ in range(4)]
    cancelled.cancel()
    done.set_result([1])
    failed.set_exception(KeyError(1))
    assert repr(pending) == f"<{name} pending>"
    assert repr(cancelled) == f"<{name} cancelled>"
    assert repr(done) == f"<{name} finished result=[1]>"
    assert repr(failed) == f"<{name} finished exception=KeyError(1)>"
    failed.exception()
    long = kind(loop=loop)
    long.set_result("long" * 1000)
    assert len(repr(long)) < 100


def test_the_repr_of_a_future_that_has_itself(handmade, loop):
    future = handmade(loop=loop)
    future.set_result([future])
    assert repr(future) == "<Future finished result=[...]>"


# Callbacks


def test_callbacks_are_called_by_the_loop_in_order(kind, loop):
    called = []
    future = kind(loop=loop)
    for number in range(4):
        future.add_done_callback(lambda f, number=number: called.append((f, number)))
    future.set_result(1)
    assert called == []
    future.add_done_callback(lambda f: called.append((f, "late")))
    assert called == []
    turn(loop)
    assert called == [(future, each) for each in [0, 1, 2, 3, "late"]]


def test_callbacks_run_in_their_context(kind, loop):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    def look(future):
        seen.append(variable.get())
        variable.set("changed")

    given = contextvars.copy_context()
    given.run(variable.set, "given")
    future = kind(loop=loop)
    variable.set("present")
    future.add_done_callback(look, context=given)
    future.add_done_callback(look)
    future.add_done_callback(look)
    variable.set("later")
    future.set_result(1)
    future.add_done_callback(look, context=given)
    future.add_done_callback(look)
    turn(loop)
    assert seen == ["given", "present", "present", "changed", "later"]
    assert variable.get() == "later"


def test_removing_callbacks(kind, loop):
    called = []
    future = kind(loop=loop)
    one, two = called.append, called.insert
    assert future.remove_done_callback(one) == 0
    for callback in one, two, one, one:
        future.add_done_callback(callback)
    assert future.remove_done_callback(one) == 3
    future.add_done_callback(one)
    assert future.remove_done_callback(two) == 1
    future.set_result(1)
    assert future.remove_done_callback(one) == 0
    turn(loop)
    assert called == [future]


def test_a_callback_that_compares_itself_may_do_anything(kind, loop):
    class Evil:
        def __eq__(self, other):
            future.remove_done_callback(print)
            if not future.done():
                future.set_result(1)
            return False

        def __call__(self, future):
            pass

    future = kind(loop=loop)
    for _ in range(20):
        future.add_done_callback(print)
        future.add_done_callback(Evil())
    with contextlib.suppress(asyncio.InvalidStateError, RuntimeError):
        future.remove_done_callback(Evil())
    turn(loop)


def test_a_comparison_that_fails_is_an_error(kind, loop):
    class Fails:
        def __eq__(self, other):
            raise KeyError("compared")

    for count in 1, 3:
        future = kind(loop=loop)
        for _ in range(count):
            future.add_done_callback(print)
        with pytest.raises(KeyError, match="compared"):
            future.remove_done_callback(Fails())
        assert future.remove_done_callback(print) == count


def test_a_callback_that_raises_is_told_to_the_loop(kind, loop):
    heard = problems(loop)
    called = []
    future = kind(loop=loop)
    future.add_done_callback(operator.truediv)
    future.add_done_callback(called.append)
    future.set_result(1)
    turn(loop)
    assert called == [future]
    assert [type(each["exception"]) for each in heard] == [TypeError]


def test_a_callback_may_be_added_while_another_is_called(kind, loop):
    called = []
    future = kind(loop=loop)
    future.add_done_callback(lambda f: f.add_done_callback(called.append))
    future.set_result(1)
    turn(loop)
    assert called == [future]


def test_a_loop_that_is_closed_is_an_error_of_who_completes(kind):
    loop = asyncio.new_event_loop()
    for end in ENDS.values():
        future = kind(loop=loop)
        future.add_done_callback(print)
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            end(future)
        assert future.done()
        outcome(future.exception)


# Waiting


async def by_await(future):
    return await future


async def by_gather(future):
    return (await asyncio.gather(future, asyncio.sleep(0)))[0]


async def by_wait(future):
    done, _ = await asyncio.wait([future])
    return done.pop().result()


async def by_as_completed(future):
    for each in asyncio.as_completed([future]):
        return await each


async def by_wait_for(future):
    return await asyncio.wait_for(future, 60)


async def by_shield(future):
    return await asyncio.shield(future)


async def by_timeout(future):
    async with asyncio.timeout(60):
        return await future


async def by_task_group(future):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(by_await(future))
    return task.result()


async def by_ensure_future(future):
    assert asyncio.ensure_future(future) is future
    return await asyncio.wrap_future(future)


async def twice(future):
    assert await future is await future
    return await future


async def by_two_tasks(future):
    one, two = await asyncio.gather(by_await(future), by_await(future))
    assert one is two
    return one


WAITS = [
    by_await,
    by_gather,
    by_wait,
    by_as_completed,
    by_wait_for,
    by_shield,
    by_timeout,
    by_ensure_future,
    by_two_tasks,
    twice,
]
HOW = ["before", "later"]


@pytest.mark.parametrize("when", HOW)
@pytest.mark.parametrize(
    "wait", [*WAITS, by_task_group], ids=lambda wait: wait.__name__
)
def test_a_result_arrives(kind, wait, when):
    async def main():
        future, result = kind(), object()
        assert asyncio.isfuture(future)
        assert inspect.isawaitable(future)
        if when == "before":
            future.set_result(result)
        else:
            asyncio.get_running_loop().call_soon(future.set_result, result)
        assert await wait(future) is result

    asyncio.run(main())


@pytest.mark.parametrize("when", HOW)
@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
def test_an_exception_arrives(kind, wait, when):
    async def main():
        future, error = kind(), KeyError("very")
        if when == "before":
            future.set_exception(error)
        else:
            asyncio.get_running_loop().call_soon(future.set_exception, error)
        with pytest.raises(KeyError) as caught:
            await wait(future)
        assert caught.value is error

    asyncio.run(main())


@pytest.mark.parametrize("when", HOW)
@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
def test_a_cancelled_future_cancels_who_waits(kind, wait, when):
    async def main():
        future = kind()
        if when == "before":
            future.cancel("why")
        else:
            asyncio.get_running_loop().call_soon(future.cancel, "why")
        with pytest.raises(asyncio.CancelledError):
            await wait(future)

    asyncio.run(main())


SHIELDS = [by_shield, by_wait]


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
def test_a_cancelled_task_cancels_the_future(kind, wait):
    async def main():
        future = kind()
        task = asyncio.create_task(wait(future))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await task
        kept = wait in (*SHIELDS, by_as_completed)
        assert future.cancelled() == (not kept)
        future.cancel()

    asyncio.run(main())


def test_gather_returns_the_exceptions_of_cancelled_children(kind):
    async def main():
        cancelled, failed, done = kind(), kind(), kind()
        gathered = asyncio.gather(cancelled, failed, done, return_exceptions=True)
        cancelled.cancel("why")
        failed.set_exception(KeyError(1))
        done.set_result(2)
        first, second, third = await asyncio.wait_for(gathered, 60)
        assert type(first) is asyncio.CancelledError and first.args == ("why",)
        assert type(second) is KeyError
        assert third == 2

    asyncio.run(main())


@pytest.mark.parametrize("returns", ["raised", "returned"])
def test_a_cancelled_child_is_no_problem_for_gather(kind, loop, returns):
    heard = problems(loop)

    async def gather():
        return await asyncio.gather(*children, return_exceptions=returns == "returned")

    children = [kind(loop=loop)]
    task = loop.create_task(gather())
    turn(loop)
    children[0].cancel()
    turn(loop, 5)
    assert heard == []
    assert task.done()


def test_wait_for_gives_up(kind):
    async def main():
        future = kind()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.001)
        assert future.cancelled()
        future = kind()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(future), 0)
        assert not future.done()
        future.cancel()

    asyncio.run(main())


def test_run_until_complete_takes_a_future(kind, loop):
    future = kind(loop=loop)
    loop.call_soon(future.set_result, 3)
    assert loop.run_until_complete(future) == 3
    future = kind(loop=loop)
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.call_soon(loop.stop)
        loop.run_until_complete(future)


def test_a_task_cannot_be_made_of_a_future(kind, loop):
    future = kind(loop=loop)
    with pytest.raises(TypeError, match="a coroutine was expected"):
        loop.create_task(future)
    with pytest.raises(TypeError, match="coroutine object is required"):
        asyncio.run_coroutine_threadsafe(future, loop)
    assert not asyncio.iscoroutine(future)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.12 brought eager tasks")
def test_eager_tasks_wait_for_it(kind):
    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        future = kind()
        task = asyncio.create_task(by_await(future))
        future.set_result(4)
        assert await task == 4

    asyncio.run(main())


def test_a_future_of_another_loop_is_refused(kind, loop):
    async def main():
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await kind(loop=loop)

    asyncio.run(main())


def test_yield_instead_of_await_is_refused(kind):
    class Yields:
        def __init__(self, future):
            self.future = future

        def __await__(self):
            yield self.future

    async def main():
        with pytest.raises(RuntimeError, match="yield was used instead"):
            await Yields(kind())

    asyncio.run(main())


def test_the_name_of_asyncio_for_waiting(kind, loop):
    future = kind(loop=loop)
    assert kind._asyncio_future_blocking is not None
    assert future._asyncio_future_blocking is False
    iterator = iter(future)
    assert next(iterator) is future
    assert future._asyncio_future_blocking is True
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)
    future._asyncio_future_blocking = False
    assert future._asyncio_future_blocking is False


# Other loops, and callers in other threads


def in_uvloop(main):
    with asyncio.Runner(loop_factory=new_uvloop) as runner:
        return runner.run(main())


def in_anyio(main, **options):
    return import_or_skip("anyio").run(main, backend_options=options)


def in_anyio_with_uvloop(main):
    import_or_skip("uvloop")
    return in_anyio(main, use_uvloop=True)


@pytest.fixture(params=[in_uvloop, in_anyio, in_anyio_with_uvloop])
def run(request):
    return request.param


def test_squares_come_in_other_loops(square, run):
    async def main():
        assert await square(7, 0) == 49
        with pytest.raises(OverflowError, match="does not fit"):
            await square(LARGEST + 1, 0)
        return await asyncio.gather(*[square(i, i / 1000) for i in range(9)])

    assert run(main) == [i * i for i in range(9)]


@pytest.mark.parametrize("whom", ["task", "future", "gathered"])
def test_cancelling_in_other_loops_ends_the_thread(square, run, whom):
    async def main():
        future = square(3, 3600)
        gathered = asyncio.gather(future)
        task = asyncio.create_task(wait_for(gathered))
        await asyncio.sleep(0)
        {"task": task, "future": future, "gathered": gathered}[whom].cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert future.cancelled()
        await threads_ended()

    run(main)


@pytest.mark.parametrize("run", [in_anyio, in_anyio_with_uvloop])
def test_a_scope_of_anyio_cancels(square, run):
    async def main():
        anyio = import_or_skip("anyio")
        futures = [square(3, 3600), square(3, 3600)]
        async with anyio.create_task_group() as group:
            for future in futures:
                group.start_soon(wait_for, future)
            await anyio.sleep(0)
            group.cancel_scope.cancel()
        with anyio.move_on_after(0.001) as scope:
            futures.append(square(3, 3600))
            await futures[-1]
        assert scope.cancelled_caught
        assert all(future.cancelled() for future in futures)
        await threads_ended()

    run(main)


def test_another_thread_submits_a_coroutine(square):
    async def main():
        return await square(7, 0)

    with loop_in_a_thread() as loop:
        submitted = asyncio.run_coroutine_threadsafe(main(), loop)
        assert submitted.result(timeout=60) == 49


def test_another_thread_cancels_what_it_submitted(square):
    futures, begun = [], threading.Event()

    async def main():
        futures.append(square(3, 3600))
        begun.set()
        await futures[0]

    with loop_in_a_thread() as loop:
        submitted = asyncio.run_coroutine_threadsafe(main(), loop)
        assert begun.wait(60)
        assert submitted.cancel()
        ended = asyncio.run_coroutine_threadsafe(threads_ended(), loop)
        ended.result(timeout=60)
        assert futures[0].cancelled()


# The iterator


def test_the_iterator_is_driven_by_hand(kind, loop):
    future = kind(loop=loop)
    for start in iter, lambda future: future.__await__():
        iterator = start(future)
        assert iter(iterator) is iterator
        assert iterator.send(None) is future
        future._asyncio_future_blocking = False
        iterator.close()
        iterator.close()
        with pytest.raises(KeyError, match="thrown"):
            start(future).throw(KeyError("thrown"))
    future.set_result((1, 2))
    with pytest.raises(StopIteration) as stop:
        next(iter(future))
    assert stop.value.value == (1, 2)
    future = kind(loop=loop)
    future.set_result(None)
    for drive in next, lambda iterator: iterator.send(None):
        with pytest.raises(StopIteration) as stop:
            drive(iter(future))
        assert stop.value.value is None


def test_the_iterator_after_its_end(handmade, loop):
    future = handmade(loop=loop)
    future.set_result(1)
    iterator = iter(future)
    for value in 1, None:
        with pytest.raises(StopIteration) as stop:
            iterator.send(None)
        assert stop.value.value == value
    iterator = iter(future)
    with pytest.raises(KeyError):
        iterator.throw(KeyError)
    with pytest.raises(StopIteration):
        iterator.send(None)


def test_errors_of_the_iterators_throw(kind, loop):
    future = kind(loop=loop)
    for args in [], [1], [int], ["text"]:
        with pytest.raises(TypeError):
            iter(future).throw(*args)


# An exception that nobody sees


def test_an_exception_that_nobody_asks_for_is_told_to_the_loop(kind, loop):
    heard = problems(loop)
    error = KeyError("unseen")
    future = kind(loop=loop)
    future.set_exception(error)
    name = kind.__name__
    del future
    gc.collect()
    assert [each["exception"] for each in heard] == [error]
    assert heard[0]["message"] == f"{name} exception was never retrieved"
    assert type(heard[0]["future"]) is kind


@pytest.mark.parametrize("ask", ["exception", "result", "cancel"])
def test_an_exception_that_was_asked_for_is_not_told(kind, loop, ask):
    heard = problems(loop)
    future = kind(loop=loop)
    future.set_exception(KeyError("seen"))
    outcome(getattr(future, ask))
    del future
    gc.collect()
    assert heard == []


def test_an_exception_in_flight_survives_the_end_of_a_future(kind, loop):
    problems(loop)

    def drop():
        future = kind(loop=loop)
        future.set_exception(KeyError("unseen"))
        raise ValueError("in flight")

    with pytest.raises(ValueError, match="in flight"):
        drop()


def test_a_traceback_does_not_grow_with_each_await(kind, loop):
    future = kind(loop=loop)
    future.set_exception(KeyError("k"))

    def depth():
        with pytest.raises(KeyError) as caught:
            future.result()
        return len(list(traceback_of(caught.value)))

    assert len({depth() for _ in range(5)}) == 1


def traceback_of(error):
    entry = error.__traceback__
    while entry is not None:
        yield entry
        entry = entry.tb_next


# Memory


def test_weak_references_and_cycles(kind, loop):
    future = kind(loop=loop)
    ref = weakref.ref(future)
    future.add_done_callback(lambda f, future=future: None)
    del future
    gc.collect()
    assert ref() is None
    future = kind(loop=loop)
    ref = weakref.ref(future)
    future.set_result([future])
    del future
    gc.collect()
    assert ref() is None
    future = kind(loop=loop)
    iterator = iter(future)
    next(iterator)
    ref = weakref.ref(future)
    future.add_done_callback(iterator.__next__)
    del future, iterator
    gc.collect()
    assert ref() is None


def test_a_square_needs_no_more_memory_than_promised():
    """At most 0.71 of a future of asyncio, whose size differs between versions."""

    async def main():
        return sys.getsizeof(native.Future()) / sys.getsizeof(asyncio.Future())

    assert asyncio.run(main()) < 0.71


def test_futures_nested_deep_are_freed(handmade, loop):
    future = None
    for _ in range(100_000):
        outer = native.Future(loop=loop)
        outer.set_result(future)
        future = outer
    del future, outer
    gc.collect()


def test_generic_aliases(kind):
    assert kind[int].__args__ == (int,)


def test_names_and_signatures():
    for name in "square", "subclassed_square":
        ours = inspect.signature(getattr(native, name))
        assert ours == inspect.signature(getattr(model, name))
    for name in "Future", "SubclassedFuture":
        assert getattr(native, name).__module__ == "thread_woken_future"
        assert getattr(native, name).__doc__


def test_the_native_future_is_no_subclass_and_the_other_is():
    assert not issubclass(native.Future, asyncio.Future)
    assert issubclass(native.SubclassedFuture, asyncio.Future)
    for kind in native.Future, native.SubclassedFuture:
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Sub", (kind,), {})
