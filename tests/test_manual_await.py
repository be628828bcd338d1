"""Chapter 1: run() and steps() do what `await` does, in the model and in C."""

import asyncio
import contextlib
import gc
import inspect
import itertools
import signal
import subprocess
import sys
import sysconfig
import threading
import types

import pytest
from conftest import (
    Awaitable,
    load_model,
    run_isolated,
    small_stack,
    start_isolated,
    survives,
    yield_item,
)

native = pytest.importorskip("manual_await", reason="run: python3 run.py test")
model = load_model("manual_await")


@pytest.fixture(params=[model, native], ids=["model", "native"])
def module(request):
    return request.param


@pytest.fixture(params=["run", "steps"])
def drive(request, module):
    """run(), or steps() without the list: both drive to the result."""
    if request.param == "run":
        return module.run
    return lambda awaitable: module.steps(awaitable)[1]


async def returns(value):
    return value


async def yields_then_returns(value):
    await yield_item(None)
    return value


async def is_refused_then_returns(value):
    with contextlib.suppress(RuntimeError):
        await yield_item("a bad yield")
    return value


def generator():
    yield


def drive_by_await(awaitable):
    """What Python's own `await` does with `awaitable`."""

    async def outer():
        return await awaitable

    with pytest.raises(StopIteration) as stop:
        coroutine = outer()
        while True:
            coroutine.send(None)
    return stop.value.value


# What it accepts


def test_a_native_coroutine_gives_its_result(drive):
    assert drive(returns("result")) == "result"


def test_a_generator_based_coroutine_gives_its_result(drive):
    assert drive(yield_item(None)) is None


def test_an_awaitable_in_python_gives_its_result(drive):
    def await_():
        yield
        return "result"

    assert drive(Awaitable(await_)) == "result"


def test_an_awaitable_whose_iterator_is_c_gives_none(drive):
    assert drive(Awaitable(lambda: iter([None, None]))) is None


def test_awaitables_of_other_extensions_give_their_result(drive):
    async def counter():
        yield 1

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        future = loop.create_future()
        future.set_result("future")
        assert drive(future) == "future"
    assert drive(anext(counter())) == 1
    assert drive(anext(counter(), "default")) == 1
    assert drive(counter().aclose()) is None


class OwnNext:
    """Not an iterator: only the object has a __next__, its type has none."""

    def __init__(self):
        self.__next__ = lambda: 3


class Impostor(Awaitable):
    """An awaitable that passes for a generator where `isinstance` is asked."""

    __class__ = types.GeneratorType
    gi_code = generator.__code__


def made_with(await_):
    """Return an awaitable whose type has `await_` as its __await__."""
    return type("Made", (), {"__await__": await_})()


CANDIDATES = {
    "int": lambda: 3,
    "None": lambda: None,
    "coroutine function": lambda: returns,
    "type": lambda: Awaitable,
    "plain generator": generator,
    "list iterator": lambda: iter([None]),
    "gives an int": lambda: Awaitable(lambda: 3),
    "gives an iterable": lambda: Awaitable(lambda: [1]),
    "gives a coroutine": lambda: Awaitable(returns(1).__await__),
    "gives a generator-based coroutine": lambda: Awaitable(lambda: yield_item(None)),
    "gives a generator": lambda: Awaitable(generator),
    "gives an object with a __next__ of its own": lambda: Awaitable(OwnNext),
    "raises": lambda: Awaitable(lambda: 1 / 0),
    "__await__ is static": lambda: made_with(staticmethod(generator)),
    "__await__ is of the class": lambda: made_with(classmethod(lambda cls: iter([]))),
    "__await__ is a property": lambda: made_with(property(lambda self: generator)),
    "says that it is a generator": lambda: Impostor(generator),
    "__await__ is None": lambda: type("Not", (), {"__await__": None})(),
    "coroutine": lambda: returns(1),
    "generator-based coroutine": lambda: yield_item(None),
}


@pytest.mark.parametrize("name", CANDIDATES)
def test_what_await_accepts_is_accepted_and_what_it_refuses_is_refused(name, drive):
    def outcome(driver):
        try:
            return "result", driver(CANDIDATES[name]())
        except Exception as error:
            return "error", type(error)

    assert outcome(drive) == outcome(drive_by_await)


def test_an_await_that_cannot_be_read_is_an_error_of_await_in_c():
    def make():
        return made_with(property(lambda self: 1 / 0))

    # Up to 3.13 the slot hides the error; the model reads the attribute itself.
    hidden = AttributeError if sys.version_info < (3, 14) else ZeroDivisionError
    for driver, error in (drive_by_await, hidden), (native.run, hidden):
        with pytest.raises(error):
            driver(make())
    with pytest.raises(ZeroDivisionError):
        model.run(make())


@pytest.mark.parametrize("value", [3, None, "text", returns], ids=repr)
def test_what_cannot_be_awaited_raises_type_error_with_its_type(drive, value):
    with pytest.raises(TypeError, match=type(value).__name__):
        drive(value)


def test_await_that_returns_no_iterator_raises_type_error_with_both_types(drive):
    with pytest.raises(TypeError, match=r"Awaitable\.__await__\(\).* not int"):
        drive(Awaitable(lambda: 3))


def test_await_that_returns_a_coroutine_raises_type_error(drive):
    coroutine = returns(1)
    with pytest.raises(TypeError, match=r"must return an iterator, not coroutine"):
        drive(Awaitable(lambda: coroutine))
    coroutine.close()


def test_the_argument_is_one_and_positional(module):
    for function in module.run, module.steps:
        assert str(inspect.signature(function)) == "(awaitable, /)"
        assert "awaitable" in function.__doc__
        for args, kwargs in ([], {}), ([1, 2], {}), ([], {"awaitable": 1}):
            with pytest.raises(TypeError):
                function(*args, **kwargs)


# What it returns

VALUES = [
    None,
    (),
    (1, 2),
    ((1, 2),),
    ValueError("v"),
    ValueError,
    StopIteration("s"),
    StopIteration((1, 2)),
    StopIteration,
    GeneratorExit(),
    NotImplemented,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize(
    "make", [returns, yields_then_returns, is_refused_then_returns]
)
def test_the_result_is_the_very_object(module, make, value):
    assert module.run(make(value)) is value


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_the_result_of_an_iterator_is_the_very_object(module, value):
    def await_():
        yield
        return value

    assert module.run(Awaitable(await_)) is value


def test_a_tuple_comes_back_whole(module):
    assert module.run(is_refused_then_returns((1, 2))) == (1, 2)


def test_a_result_that_nobody_else_holds_is_alive(module):
    class Result:
        alive = True

    async def main():
        with contextlib.suppress(RuntimeError):
            await yield_item("a bad yield")
        return Result()

    assert module.run(main()).alive


def test_steps_returns_all_that_was_yielded_and_the_result(module):
    class Item:
        pass

    items = [None, 3, (1, 2), StopIteration(4), Item]

    async def main():
        for item in items:
            assert await yield_item(item) is None
        return "result"

    yielded, result = pair = module.steps(main())
    assert type(pair) is tuple
    assert type(yielded) is list
    assert result == "result"
    assert all(a is b for a, b in zip(yielded, items, strict=True))


def test_steps_of_what_never_yields_is_an_empty_list(module):
    assert module.steps(returns("result")) == ([], "result")


# What cannot be waited for


def test_a_bare_yield_goes_on(module):
    async def main():
        for _ in range(1000):
            await asyncio.sleep(0)
        return "done"

    assert module.run(main()) == "done"
    assert module.steps(main()) == ([None] * 1000, "done")


def test_a_bad_yield_raises_runtime_error_at_the_await(module):
    async def main():
        try:
            await yield_item("the item")
        except RuntimeError as error:
            return error

    error = module.run(main())
    assert str(error) == "waiting for 'the item' needs an event loop"
    assert error.__cause__ is None
    assert error.__context__ is None


def test_a_pending_future_needs_an_event_loop(module):
    async def main(future):
        await future

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        for awaitable in (main(loop.create_future()), loop.create_future()):
            with pytest.raises(
                RuntimeError, match=r"Future pending.*needs an event loop"
            ):
                module.run(awaitable)


def test_a_refused_future_keeps_the_mark_that_only_a_task_clears(module):
    async def main(future):
        with pytest.raises(RuntimeError, match="needs an event loop"):
            module.run(future)
        with pytest.raises(RuntimeError, match="await wasn't used with future"):
            await future
        future.set_result("done")
        return await future

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        future = loop.create_future()
        assert loop.run_until_complete(main(future)) == "done"


def test_an_uncaught_bad_yield_ends_the_awaitable_and_its_finally_awaits(module):
    log = []

    async def main():
        try:
            await yield_item(14)
        finally:
            await yield_item(None)
            log.append("finally")

    coroutine = main()
    with pytest.raises(RuntimeError, match="waiting for 14 needs an event loop"):
        module.run(coroutine)
    assert log == ["finally"]
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_every_bad_yield_is_refused(module):
    items = [False, 0, "", 3, (1, 2), StopIteration(4)]

    async def main():
        refused = []
        for item in items:
            try:
                await yield_item(item)
            except RuntimeError as error:
                refused.append(str(error))
        return refused

    assert module.run(main()) == [
        f"waiting for {item!r} needs an event loop" for item in items
    ]


def test_a_bad_yield_of_an_iterator_without_throw_ends_the_run(module):
    with pytest.raises(RuntimeError, match="waiting for 14 needs an event loop"):
        module.run(Awaitable(lambda: iter([14])))


def test_an_error_of_the_lookup_of_throw_is_not_lost(module):
    class Steps:
        def __iter__(self):
            return self

        def __next__(self):
            return 14

        @property
        def throw(self):
            raise KeyError("no throw today")

    with pytest.raises(KeyError, match="no throw today"):
        module.run(Awaitable(Steps))


def test_a_repr_that_fails_is_raised_at_the_await(module):
    class Unprintable:
        def __repr__(self):
            raise KeyError("no repr")

    async def main():
        try:
            await yield_item(Unprintable())
        except KeyError as error:
            return error.args

    assert module.run(main()) == ("no repr",)


def test_a_stop_iteration_from_a_repr_ends_the_model_but_passes_through_the_c():
    class Unprintable:
        def __repr__(self):
            raise StopIteration("from the repr")

    assert model.run(Awaitable(lambda: iter([Unprintable()]))) == "from the repr"
    with pytest.raises(StopIteration, match="from the repr"):
        native.run(Awaitable(lambda: iter([Unprintable()])))


# What goes wrong


def test_a_finished_coroutine_raises_pythons_own_error(drive):
    coroutine = returns(1)
    drive(coroutine)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        drive(coroutine)


def test_a_running_coroutine_raises_pythons_own_error(drive):
    async def main():
        with pytest.raises(ValueError, match="coroutine already executing"):
            drive(coroutine)
        return "unharmed"

    coroutine = main()
    assert drive(coroutine) == "unharmed"


def test_a_coroutine_that_is_being_awaited_raises_pythons_own_error(drive):
    coroutine = yields_then_returns("unharmed")
    coroutine.send(None)
    with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
        drive(coroutine)
    with pytest.raises(StopIteration, match="unharmed"):
        coroutine.send(None)


ERRORS = [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit]


@pytest.mark.parametrize("kind", [*ERRORS, asyncio.CancelledError])
def test_an_exception_passes_as_the_same_object_with_its_traceback(drive, kind):
    error = kind("message")
    cause = KeyError("cause")

    async def inner():
        await yield_item(None)
        raise error from cause

    async def outer():
        try:
            raise IndexError("handled")
        except IndexError:
            await inner()

    with pytest.raises(kind) as caught:
        drive(outer())
    assert caught.value is error
    assert error.__cause__ is cause
    assert isinstance(error.__context__, IndexError)
    assert [frame.name for frame in caught.traceback][-2:] == ["outer", "inner"]


def test_a_stop_iteration_in_a_coroutine_is_pythons_own_runtime_error(drive):
    async def main():
        raise StopIteration(1)

    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        drive(main())


def test_a_call_inside_an_except_block_keeps_the_handled_exception(drive):
    try:
        raise KeyError("handled")
    except KeyError as handled:
        assert drive(is_refused_then_returns(1)) == 1
        assert sys.exc_info()[1] is handled


def test_a_refusal_inside_an_except_block_has_no_context(module):
    async def main():
        try:
            await yield_item("a bad yield")
        except RuntimeError as error:
            return error.__context__

    try:
        raise KeyError("the caller's own business")
    except KeyError:
        assert module.run(main()) is None


def test_an_exception_after_a_refusal_keeps_its_traceback(module):
    def deep():
        raise KeyError

    async def later():
        with contextlib.suppress(RuntimeError):
            await yield_item("a bad yield")
        deep()

    with pytest.raises(KeyError) as caught:
        module.run(later())
    assert [frame.name for frame in caught.traceback][-2:] == ["later", "deep"]


def test_a_stop_iteration_without_a_value_gives_none_when_thrown(module):
    class Valueless(StopIteration):
        def __init__(self):
            pass  # and so the value is never set

    class Steps:
        __iter__ = __next__ = lambda self: self

        def throw(self, error):
            raise Valueless

    assert module.run(Awaitable(Steps)) is None


MAKERS = [returns, yields_then_returns, is_refused_then_returns, yield_item]


@pytest.mark.parametrize("make", MAKERS)
def test_the_awaitable_keeps_its_references(module, make):
    awaitable = make(None)
    before = sys.getrefcount(awaitable)
    module.run(awaitable)
    gc.collect()  # the model's own frame is in a cycle with the error
    assert sys.getrefcount(awaitable) == before


def test_calls_nest(module):
    async def main(n):
        await yield_item(None)
        return 1 + module.run(main(n - 1)) if n else 0

    assert module.run(main(20)) == 20


def test_the_awaitable_may_be_dropped_while_it_runs(module):
    class Await:
        def __await__(self):
            holder.clear()
            yield
            return "result"

    holder = [Await()]
    assert module.run(holder[0]) == "result"


# Signals, threads, depth


@pytest.mark.parametrize("name", ["run", "steps"])
def test_ctrl_c_stops_what_never_ends_and_its_finally_awaits(name):
    with start_isolated("interrupt_manual_await.py", name) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
    assert (out, err) == ("finally\nCORO_CLOSED\n", "")


def test_a_signal_handler_that_raises_is_raised_at_the_await():
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    async def main():
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            await Awaitable(lambda: itertools.repeat(None))
        except Alarm:
            return "rang"

    before = signal.signal(signal.SIGALRM, ring)
    try:
        assert native.run(main()) == "rang"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_thread_whose_steps_are_all_c_lets_others_run():
    assert run_isolated("threads_manual_await.py", timeout=20) == "stopped\n"


def test_many_threads_drive_at_once(module):
    results = []
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        results.extend(module.run(yields_then_returns(n)) for n in range(300))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted([*range(300)] * 8)


@pytest.mark.skipif(
    sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info < (3, 15),
    reason="threads that share a coroutine crash this Python: cpython#120321",
)
def test_of_many_threads_with_one_coroutine_one_gets_the_result(module):
    for _ in range(50):
        coroutine = yields_then_returns("result")
        outcomes = []
        barrier = threading.Barrier(4)

        def work(coroutine=coroutine, outcomes=outcomes, barrier=barrier):
            barrier.wait()
            try:
                outcomes.append(module.run(coroutine))
            except (RuntimeError, ValueError) as error:
                outcomes.append(type(error))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 4
        assert outcomes.count("result") == 1


CASES = ["nested_coroutines", "nested_runs", "chain_of_runs", "circle"]
ENDINGS = ["bottom\n", "None\n", "RecursionError\n"]


RECURSION = "recursion_manual_await.py"


@pytest.mark.parametrize("case", CASES)
def test_depth_gives_a_value_or_recursion_error(case):
    assert run_isolated(RECURSION, case) in ENDINGS


def test_a_deep_chain_of_coroutines_ends_as_in_plain_python():
    if not survives(RECURSION, "control_chain_of_coroutines"):
        pytest.skip("plain Python crashes with the chain, without this module")
    assert run_isolated(RECURSION, "chain_of_coroutines") in ENDINGS


@pytest.mark.parametrize("case", CASES)
def test_depth_in_a_small_stack_gives_recursion_error(case):
    controls = ["control", "control_nested"] if "nested" in case else ["control"]
    stack = small_stack(RECURSION, *controls)
    assert run_isolated(RECURSION, case, stack) in ENDINGS


# Memory, interpreters, free threading


def test_every_failing_allocation_gives_memory_error_and_leaks_nothing():
    assert int(run_isolated("nomemory_manual_await.py")) > 30


def test_no_path_leaks():
    run_isolated("leaks_manual_await.py")


def test_subinterpreters_import_it():
    run_isolated("subinterpreter_manual_await.py")


def test_importing_it_leaves_the_gil_off():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python has a GIL")
    code = "import sys, manual_await; print(sys._is_gil_enabled())"
    command = [sys.executable, "-W", "error", "-c", code]
    assert subprocess.check_output(command, text=True) == "False\n"


# Random trees


def in_a_task(coroutine):
    """Drive `coroutine` as asyncio does: the judge wherever it has an answer."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(coroutine)


def test_random_trees_end_alike_in_the_model_in_c_and_in_a_task():
    hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis")
    from trees import outcome, trees

    @hypothesis.settings(max_examples=1000, deadline=None)
    @hypothesis.given(trees)
    def check(tree):
        expected = outcome(tree, in_a_task)
        assert outcome(tree, model.run) == expected
        assert outcome(tree, native.run) == expected

    check()


def test_random_trees_yield_alike_in_the_model_and_in_c():
    hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis")
    from trees import outcome, trees

    @hypothesis.settings(max_examples=1000, deadline=None)
    @hypothesis.given(trees)
    def check(tree):
        expected = outcome(tree, model.steps, top=lambda awaitable: awaitable)
        assert outcome(tree, native.steps, top=lambda awaitable: awaitable) == expected

    check()
