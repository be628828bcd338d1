"""Chapter 4: native futures and coroutines that await each other, in Python and C."""

import asyncio
import collections.abc
import contextlib
import contextvars
import fractions
import functools
import gc
import inspect
import itertools
import os
import sys
import threading
import time
import types
import warnings
import weakref

import native_trees
import pytest
from conftest import Awaitable, import_or_skip, load_model, loop_in_a_thread
from native_ends import (  # noqa: F401
    stack,
    test_a_native_future_in_flight_changes_nothing_at_the_end_of_the_process,
    test_a_python_that_warns_of_everything_has_nothing_to_say_of_native_futures,
    test_fork_with_native_futures_in_flight,
    test_importing_the_bridge_leaves_the_gil_off,
    test_loops_in_several_threads_share_the_timer_and_the_pool,
    test_native_futures_in_subinterpreters,
    test_native_futures_leak_nothing,
    test_no_end_of_a_native_future_goes_unheard,
    test_ten_thousand_native_futures_in_a_small_stack,
    test_ten_thousand_native_futures_in_one_another,
    test_the_end_of_a_native_future_may_race_with_its_loop,
    test_the_end_of_the_process_is_the_same_each_time,
    test_without_a_thread_a_native_future_fails_and_loses_nothing,
    test_without_memory_a_call_of_a_native_future_fails_and_loses_nothing,
)

native = pytest.importorskip("native_future_bridge", reason="run: python3 run.py test")
model = load_model("native_future_bridge")

HOUR = 3600
PATIENCE = 20  # seconds after which something that must happen has not
BRIDGES = {"model": model, "native": native}
COMBINATORS = {
    "join": lambda bridge, *children: bridge.join(*children),
    "select": lambda bridge, *children: bridge.select(*children),
    "timeout": lambda bridge, child, *others: bridge.timeout(child, HOUR),
}


@pytest.fixture(params=BRIDGES)
def bridge(request):
    return BRIDGES[request.param]


@pytest.fixture(params=COMBINATORS)
def combine(request, bridge):
    """join, select or timeout, called with children; the latter takes one of them."""
    return functools.partial(COMBINATORS[request.param], bridge)


def collect():
    """Collect garbage, and what its finalizers leave."""
    for _ in range(3):
        gc.collect()


def wait_until(condition, patience=PATIENCE):
    """Block this thread until condition(), and fail if that takes too long."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture(autouse=True, scope="module")
def what_was_there_before_is_not_searched():
    """Make collect() fast: it runs after each test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


before = dict.fromkeys(["sleepers", "jobs", "wakes", "writes", "mailboxes"], 0)


def counted(name):
    """Return what the native one has counted in this test."""
    return native.counters()[name] - before[name]


def nothing_sleeps():
    return counted("sleepers") == 0


def nothing_is_computed():
    return counted("jobs") <= 0


def no_mailbox_is_left():
    collect()
    return counted("mailboxes") <= 0


@pytest.fixture(autouse=True)
def nothing_is_left(caplog, monkeypatch):
    """After each test nothing sleeps, computes, was forgotten or has complained."""
    before.update(native.counters())
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        collect()
    assert [str(warning.message) for warning in caught] == []
    assert [error.exc_value for error in unraisable] == []
    complaints = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in complaints] == []
    assert counted("sleepers") <= 0
    wait_until(lambda: nothing_is_computed() and no_mailbox_is_left(), 5)


def run(main, *args):
    """Run main(*args) in a loop of its own, and fail if that takes too long."""

    async def in_time():
        async with asyncio.timeout(PATIENCE):
            return await main(*args)

    return asyncio.run(in_time())


async def turns(times):
    """Let the loop turn, so that the others go on."""
    for _ in range(times):
        await asyncio.sleep(0)


async def until(condition):
    """Let the loop turn until condition(), and fail if that takes too long."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def wait_for(awaitable):
    return await awaitable


async def returns(value=None):
    return value


async def fails(error):
    raise error


async def soon(value=None):
    await asyncio.sleep(0)
    return value


def problems():
    """Return the list to which the running loop's exception handler will write."""
    heard = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: heard.append(context))
    return heard


class Log(list):
    """What happened, in order."""

    def __init__(self):
        super().__init__()
        self.gates = {}

    def open(self, name):
        self.gates.setdefault(name, asyncio.Event()).set()

    async def waits(self, name, at_end=None):
        """Wait for ever; note an exception, and call at_end() before it goes on."""
        self.append((name, "begins"))
        try:
            await asyncio.get_running_loop().create_future()
        except BaseException as error:
            self.append((name, type(error).__name__))
            if at_end is not None:
                at_end()
            raise

    async def cleans_up(self, name, end=None):
        """Wait for ever; when cancelled, for the gate `name`, and then end() or end."""
        try:
            await self.waits(name)
        except asyncio.CancelledError:
            gate = self.gates.setdefault(name, asyncio.Event())
            try:
                await gate.wait()
            except asyncio.CancelledError:
                self.append((name, "cancelled again"))
                raise
            self.append((name, "cleaned up"))
            if end is None:
                raise
            return end()


def raises(error):
    """Return a function that raises error."""

    def function():
        raise error

    return function


async def cancelled(task, times=1):
    """Cancel a task and wait for its end; return how it ended."""
    for _ in range(times):
        task.cancel("stop")
        await turns(5)
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.done()
    return "cancelled" if task.cancelled() else task.exception() or task.result()


# The functions


def test_sleep_gives_its_value(bridge):
    async def main():
        value = object()
        assert await bridge.sleep(0) is None
        assert await bridge.sleep(0.001) is None
        assert await bridge.sleep(0, value) is value
        assert await bridge.sleep(0.001, value) is value
        assert await bridge.sleep(delay=0.001, value=value) is value
        error = KeyError("a value")
        assert await bridge.sleep(0.001, error) is error

    run(main)


@pytest.mark.parametrize("delay", [0, False, 0.0, -0.0, fractions.Fraction(1, 1000)])
def test_a_delay_may_be_any_real_number(bridge, delay):
    assert asyncio.run(bridge.sleep(delay, 1)) == 1
    assert asyncio.run(bridge.timeout(returns(2), delay + 100)) == 2


def test_sleep_does_not_end_too_early(bridge):
    before = time.monotonic()
    asyncio.run(bridge.sleep(0.05))
    assert time.monotonic() - before >= 0.05


def test_many_sleep_at_the_same_time(bridge):
    async def main():
        sleeps = [bridge.sleep(0.2, i) for i in range(100)]
        return await bridge.join(*sleeps)

    before = time.monotonic()
    assert run(main) == list(range(100))
    assert time.monotonic() - before < 10


def test_who_sleeps_shorter_wakes_earlier_in_whatever_order_they_began(bridge):
    async def main():
        woken = []

        async def sleep(delay):
            woken.append(await bridge.sleep(delay, delay))

        delays = [HOUR, 0.3, 0.6, HOUR, 0.001]
        tasks = [asyncio.create_task(sleep(delay)) for delay in delays]
        await asyncio.wait(tasks[1:3])
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return woken

    assert run(main) == [0.001, 0.3, 0.6]


def test_many_go_on_in_the_order_in_which_they_were_woken(bridge):
    async def main():
        order = []

        async def note(number):
            order.append(await bridge.sleep(0.001 * number, number))

        tasks = [asyncio.create_task(note(number)) for number in range(1, 31)]
        await turns(2)
        time.sleep(0.1)  # the loop hears of all of them at once
        await asyncio.gather(*tasks)
        return order

    assert run(main) == [*range(1, 31)]


def test_a_sleep_of_zero_lets_others_run(bridge):
    async def main():
        log = []

        async def sleeps(name):
            for i in range(3):
                log.append((name, i))
                await bridge.sleep(0)

        await asyncio.gather(sleeps("a"), sleeps("b"))
        return log

    log = run(main)
    assert log[:2] == [("a", 0), ("b", 0)]
    for name in "ab":
        assert [i for who, i in log if who == name] == [0, 1, 2]


def test_a_sleep_of_zero_suspends_once_at_least(combine, bridge):
    async def main():
        log = []
        for number, make in enumerate(
            [
                lambda: bridge.sleep(0),
                lambda: combine(bridge.sleep(0)),
                lambda: combine(combine(bridge.sleep(0))),
            ]
        ):
            asyncio.get_running_loop().call_soon(log.append, number)
            await make()
            log.append("slept")
        return log

    assert run(main) == [0, "slept", 1, "slept", 2, "slept"]


def test_compute_gives_the_fibonacci_numbers(bridge):
    async def main():
        return [await bridge.compute(n) for n in range(16)]

    numbers = [0, 1]
    while len(numbers) < 16:
        numbers.append(numbers[-1] + numbers[-2])
    assert run(main) == numbers


def test_there_may_be_more_computations_than_threads(bridge):
    count = 20 * (os.cpu_count() or 1)

    async def main():
        return await bridge.join(*[bridge.compute(12) for _ in range(count)])

    assert run(main) == [144] * count


def test_the_loop_turns_while_something_is_computed(bridge):
    async def main():
        task = asyncio.create_task(bridge.compute(80))
        await turns(100)
        assert not task.done()
        return await cancelled(task)

    assert run(main) == "cancelled"


@pytest.mark.parametrize("n", [93, 1000, 2**63 - 1])
def test_a_number_that_does_not_fit_is_an_error_of_the_computation(bridge, n):
    message = "the number does not fit into a C long long"

    async def main():
        coroutine = bridge.compute(n)
        with pytest.raises(OverflowError, match=message):
            await coroutine
        with pytest.raises(OverflowError, match=message):
            await bridge.join(bridge.sleep(HOUR), bridge.compute(n))

    run(main)


def test_join_gives_all_results_in_order(bridge):
    async def main():
        assert await bridge.join(bridge.sleep(0, 1)) == [1]
        late = bridge.sleep(0.05, "late")
        results = await bridge.join(late, soon("soon"), bridge.sleep(0), returns(()))
        assert type(results) is list
        return results

    assert run(main) == ["late", "soon", None, ()]


def test_select_gives_the_first_result(bridge):
    async def main():
        log = Log()
        result = await bridge.select(
            bridge.sleep(HOUR),
            log.waits("a"),
            bridge.sleep(0.01, "first"),
            log.waits("b"),
        )
        return result, log[2:]

    ended = [("a", "CancelledError"), ("b", "CancelledError")]
    assert run(main) == ("first", ended)


def test_select_raises_the_first_exception(bridge):
    async def main():
        log, error = Log(), KeyError("first")
        with pytest.raises(KeyError) as caught:
            await bridge.select(log.waits("a"), soon_fails(error))
        assert caught.value is error
        return log

    assert run(main) == [("a", "begins"), ("a", "CancelledError")]


async def soon_fails(error):
    await turns(2)
    raise error


def test_select_takes_the_leftmost_of_those_that_are_done(bridge):
    async def main():
        futures = [asyncio.get_running_loop().create_future() for _ in range(3)]
        futures[2].set_result("right")
        futures[1].set_result("left")
        result = await bridge.select(*futures)
        assert futures[0].cancelled()
        return result

    assert run(main) == "left"


def test_select_waits_for_the_cleanup_of_the_others(bridge):
    async def main():
        log = Log()
        task = asyncio.create_task(
            bridge.select(log.cleans_up("a"), soon("first"), log.cleans_up("b"))
        )
        for name in "ab":
            await turns(20)
            assert not task.done()
            log.open(name)
        return await task, log[-2:]

    assert run(main) == ("first", [("a", "cleaned up"), ("b", "cleaned up")])


def test_timeout_gives_the_result_of_what_is_in_time(bridge):
    async def main():
        assert await bridge.timeout(bridge.sleep(0, 1), HOUR) == 1
        assert await bridge.timeout(soon(2), HOUR) == 2
        assert await bridge.timeout(bridge.compute(10), HOUR) == 55
        assert await bridge.timeout(delay=HOUR, awaitable=returns(3)) == 3
        error = KeyError("in time")
        with pytest.raises(KeyError) as caught:
            await bridge.timeout(soon_fails(error), HOUR)
        assert caught.value is error
        assert nothing_sleeps()

    run(main)


@pytest.mark.parametrize("delay", [0, 0.001])
def test_timeout_gives_up(bridge, delay):
    async def main():
        log = Log()
        for child in [bridge.sleep(HOUR), bridge.compute(80), log.waits("a")]:
            with pytest.raises(TimeoutError) as caught:
                await bridge.timeout(child, delay)
            assert type(caught.value) is TimeoutError
        return log

    assert run(main) == [("a", "begins"), ("a", "CancelledError")]


def test_timeout_waits_for_the_cleanup_of_what_it_abandons(bridge):
    async def main():
        log = Log()
        task = asyncio.create_task(bridge.timeout(log.cleans_up("a"), 0.001))
        await until(lambda: len(log) == 2)
        await turns(20)
        assert not task.done()
        log.open("a")
        with pytest.raises(TimeoutError):
            await task
        return log[1:]

    assert run(main) == [("a", "CancelledError"), ("a", "cleaned up")]


def test_what_is_abandoned_may_still_give_a_result_or_fail(bridge):
    async def main():
        log, error = Log(), KeyError("in the cleanup")
        log.open("a"), log.open("b")
        late = bridge.timeout(log.cleans_up("a", lambda: "late"), 0.001)
        assert await late == "late"
        with pytest.raises(KeyError) as caught:
            await bridge.timeout(log.cleans_up("b", raises(error)), 0.001)
        assert caught.value is error

    run(main)


def test_timeouts_in_each_other_give_up_where_the_time_is_over(bridge):
    async def main():
        inner = bridge.timeout(bridge.sleep(HOUR), 0.001)
        with pytest.raises(TimeoutError):
            await bridge.timeout(inner, HOUR)
        inner = bridge.timeout(bridge.sleep(HOUR), HOUR)
        with pytest.raises(TimeoutError):
            await bridge.timeout(inner, 0.001)

        async def catches():
            with contextlib.suppress(TimeoutError):
                await bridge.timeout(bridge.sleep(HOUR), 0.001)
            return "caught"

        return await bridge.timeout(catches(), HOUR)

    assert run(main) == "caught"


# What they return

MAKE = {
    "sleep": (lambda bridge: bridge.sleep(0.001, 1), 1),
    "compute": (lambda bridge: bridge.compute(10), 55),
    "join": (lambda bridge: bridge.join(bridge.sleep(0.001, 1), soon(2)), [1, 2]),
    "select": (lambda bridge: bridge.select(bridge.sleep(HOUR), soon(2)), 2),
    "timeout": (lambda bridge: bridge.timeout(soon(3), HOUR), 3),
}


@pytest.fixture(params=MAKE)
def made(request, bridge):
    """A function that makes a coroutine, what that returns, and its name."""
    make, result = MAKE[request.param]
    return functools.partial(make, bridge), result, request.param


def by_run_in_debug_mode(make):
    return asyncio.run(make(), debug=True)


async def by_create_task(make):
    return await asyncio.create_task(make())


async def by_gather(make):
    first, second = await asyncio.gather(make(), make())
    assert first == second
    return first


async def by_wait_for(make):
    return await asyncio.wait_for(make(), PATIENCE)


async def by_shield(make):
    return await asyncio.shield(make())


async def by_task_group(make):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(make())
    return task.result()


async def by_timeout(make):
    async with asyncio.timeout(PATIENCE):
        return await make()


async def by_await_of_its_iterator(make):
    return await Awaitable(lambda: make().__await__())


async def by_eager_task(make):
    if sys.version_info < (3, 12):
        pytest.skip("3.12 is the first with eager tasks")
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    task = asyncio.create_task(make())
    return await task


async def by_another_of_its_kind(make):
    inner = model.timeout(native.join(model.select(make())), HOUR)
    return (await native.timeout(inner, HOUR))[0]


def by_run_coroutine_threadsafe(make):
    with loop_in_a_thread() as loop:
        future = asyncio.run_coroutine_threadsafe(make(), loop)
        return future.result(timeout=PATIENCE)


def by_uvloop(make):
    uvloop = import_or_skip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(by_create_task(make))


def by_anyio(make, **options):
    anyio = import_or_skip("anyio")
    results = []

    async def wrapper():
        results.append(await make())

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(make)  # only a coroutine is accepted
            group.start_soon(wrapper)

    anyio.run(main, backend_options=options)
    return results.pop()


def by_anyio_with_uvloop(make):
    import_or_skip("uvloop")
    return by_anyio(make, use_uvloop=True)


DRIVERS = [
    by_run_in_debug_mode,
    by_create_task,
    by_gather,
    by_wait_for,
    by_shield,
    by_task_group,
    by_timeout,
    by_await_of_its_iterator,
    by_eager_task,
    by_another_of_its_kind,
    by_run_coroutine_threadsafe,
    by_uvloop,
    by_anyio,
    by_anyio_with_uvloop,
]


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.__name__)
def test_it_is_driven_to_its_result(made, driver):
    make, expected, _ = made
    drive = driver
    if inspect.iscoroutinefunction(driver):
        drive = functools.partial(run, driver)
    assert drive(make) == expected


def test_it_is_a_coroutine(made):
    make, _, name = made
    with contextlib.closing(make()) as coroutine:
        assert asyncio.iscoroutine(coroutine)
        assert inspect.isawaitable(coroutine)
        assert isinstance(coroutine, collections.abc.Coroutine)
        assert coroutine.__name__ == coroutine.__qualname__ == name
        assert repr(coroutine).startswith(f"<coroutine object {name} at 0x")
        assert coroutine.cr_await is None and not coroutine.cr_running


def test_the_native_one_is_of_a_type_of_its_own():
    coroutines = [make(native) for make, _ in MAKE.values()]
    for coroutine in coroutines:
        assert not isinstance(coroutine, types.CoroutineType)
        assert type(coroutine).__module__ == "native_future_bridge"
        coroutine.close()


def test_inspect_finds_its_state(bridge):
    async def main():
        coroutine = bridge.join(bridge.sleep(HOUR))
        states = [inspect.getcoroutinestate(coroutine)]
        task = asyncio.create_task(coroutine)
        await turns(2)
        states.append(inspect.getcoroutinestate(coroutine))
        assert coroutine.cr_await is not None
        assert await cancelled(task) == "cancelled"
        states.append(inspect.getcoroutinestate(coroutine))
        return states

    assert run(main) == ["CORO_CREATED", "CORO_SUSPENDED", "CORO_CLOSED"]


def test_it_can_be_driven_by_hand(bridge):
    async def main():
        loop = asyncio.get_running_loop()
        coroutine = bridge.sleep(0, "value")
        future = coroutine.send(None)
        assert asyncio.isfuture(future) and future.get_loop() is loop
        future._asyncio_future_blocking = False
        await until(future.done)
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
        return stop.value.value

    assert run(main) == "value"


def test_a_fresh_one_takes_nothing_but_none(made):
    make, _, _ = made
    with contextlib.closing(make()) as coroutine:
        with pytest.raises(TypeError, match="just-started coroutine"):
            coroutine.send(1)
        assert inspect.getcoroutinestate(coroutine) == "CORO_CREATED"


@pytest.mark.parametrize("end", ["await", "close", "throw", "cancel"])
def test_one_that_has_ended_cannot_be_used_again(made, end):
    make, _, _ = made

    async def main():
        coroutine = make()
        if end == "await":
            await coroutine
        elif end == "close":
            coroutine.close()
        elif end == "throw":
            with pytest.raises(KeyError, match="thrown"):
                coroutine.throw(KeyError("thrown"))
        else:
            assert await cancelled(asyncio.create_task(coroutine)) is not None
        assert inspect.getcoroutinestate(coroutine) == "CORO_CLOSED"
        for use in [
            lambda: coroutine.send(None),
            lambda: coroutine.throw(KeyError()),
            lambda: coroutine.__await__().send(None),
        ]:
            with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
                use()
        coroutine.close()

    run(main)


def test_one_that_waits_cannot_be_awaited(bridge):
    async def main():
        coroutine = bridge.sleep(HOUR)
        task = asyncio.create_task(coroutine)
        await turns(2)
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await coroutine
        return await cancelled(task)

    assert run(main) == "cancelled"


def test_one_that_is_never_awaited_warns_once_and_closes_what_it_was_given(combine):
    child = returns()
    nested = combine(combine(child))
    name = nested.__name__
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del nested
        collect()
        messages = [str(warning.message) for warning in caught]
        caught.clear()  # a warning has the coroutine that it is about
        collect()
    assert messages == [f"coroutine '{name}' was never awaited"]
    assert inspect.getcoroutinestate(child) == "CORO_CLOSED"


@pytest.mark.parametrize("end", ["close", "throw", "cancel"])
def test_one_that_ends_before_it_starts_closes_what_it_was_given(combine, end):
    async def main():
        child = returns()
        coroutine = combine(combine(child))
        if end == "close":
            coroutine.close()
        elif end == "throw":
            with pytest.raises(KeyError):
                coroutine.throw(KeyError())
        else:
            assert await cancelled(asyncio.create_task(coroutine)) == "cancelled"
        del coroutine
        collect()
        assert inspect.getcoroutinestate(child) == "CORO_CLOSED"

    run(main)


def test_closing_one_that_waits_drops_what_is_native_and_cancels_the_rest(combine):
    async def main():
        log = Log()
        for bridge in BRIDGES.values():
            coroutine = combine(bridge.join(log.waits("a"), bridge.sleep(HOUR)))
            coroutine.send(None)
            await turns(2)
            coroutine.close()
            assert inspect.getcoroutinestate(coroutine) == "CORO_CLOSED"
            await turns(20)
            assert len(asyncio.all_tasks()) == 1
        assert nothing_sleeps()
        return log

    assert run(main) == [("a", "begins"), ("a", "CancelledError")] * 2


def test_what_is_thrown_in_comes_out_after_the_cleanup(combine):
    async def main():
        log, error = Log(), KeyError("thrown")
        coroutine = combine(log.cleans_up("a"))

        def throws():
            coroutine.send(None)
            for _ in range(5):
                yield
            future = coroutine.throw(error)
            log.open("a")
            while True:
                while not future.done():
                    yield
                future = coroutine.send(None)

        with pytest.raises(KeyError) as caught:
            await Awaitable(throws)
        assert caught.value is error
        return log

    ended = [("a", "CancelledError"), ("a", "cleaned up")]
    assert run(main) == [("a", "begins"), *ended]


def test_an_exception_thrown_into_a_sleep_comes_out_at_once(bridge):
    async def main():
        error = KeyError("thrown")
        coroutine = bridge.timeout(bridge.join(bridge.sleep(HOUR)), HOUR)
        coroutine.send(None)
        with pytest.raises(KeyError) as caught:
            coroutine.throw(error)
        assert caught.value is error
        assert nothing_sleeps()

    run(main)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="3.14 brought call graphs")
def test_call_graphs_go_through_it(bridge):
    # Named difference: all coroutines of the model have one body, `drive`.
    name = "drive" if bridge is model else "sleep"

    async def waiter():
        await bridge.sleep(HOUR)

    async def main():
        task = asyncio.create_task(waiter())
        await turns(2)
        graph = asyncio.capture_call_graph(task)
        names = [entry.frame.f_code.co_name for entry in graph.call_stack]
        assert names[-2:] == [name, "waiter"]
        assert "waiter" in asyncio.format_call_graph(task)
        return await cancelled(task)

    assert run(main) == "cancelled"


def test_weak_references_see_it_die(bridge):
    async def main():
        value = Log()
        coroutine = bridge.join(bridge.sleep(0, value), bridge.sleep(0.001, value))
        dead = weakref.ref(coroutine), weakref.ref(value)
        await coroutine
        del coroutine, value
        collect()
        return [ref() for ref in dead]

    assert run(main) == [None, None]


@pytest.mark.parametrize("state", ["fresh", "begun", "ended"])
def test_a_cycle_through_a_child_is_collected(combine, bridge, state):
    if bridge is model and state == "begun":
        pytest.skip("named difference: the timer of the model keeps what it wakes")

    class Held(list):
        def __await__(self):
            return stop(None)

    async def main():
        held = Held()
        inner = bridge.join(bridge.sleep(HOUR, held), held)
        coroutine = bridge.timeout(combine(inner), HOUR)
        held.append(coroutine)
        dead = weakref.ref(held)
        if state == "begun":
            coroutine.send(None)
            await turns(5)
        elif state == "ended":
            coroutine.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del held, inner, coroutine
            collect()
        await turns(5)
        collect()
        return dead()

    assert run(main) is None


# Children of every kind


async def generates(value):
    yield value


def chapter_2(value):
    module = import_or_skip("handmade_coroutine")
    return module.add(soon(value), module.Echo(0))


def chapter_2_in_python(value):
    module = load_model("handmade_coroutine")
    return module.add(soon(value), module.Echo(0))


def done_future(value):
    future = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def pending_future(value):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, value)
    return future


KINDS = {
    "coroutine": returns,
    "coroutine that waits": soon,
    "future": pending_future,
    "future that is done": done_future,
    "task": lambda value: asyncio.ensure_future(soon(value)),
    "object": lambda value: Awaitable(lambda: soon(value).__await__()),
    "object that is ready": lambda value: Awaitable(lambda: stop(value)),
    "asynchronous generator": lambda value: generates(value).__anext__(),
    "chapter 2": chapter_2,
    "chapter 2 in Python": chapter_2_in_python,
    "gather": lambda value: wait_for_first(asyncio.gather(soon(value))),
    "shield": lambda value: asyncio.shield(soon(value)),
    "native": lambda value: native.sleep(0.001, value),
    "model": lambda value: model.sleep(0.001, value),
    "native in Python": lambda value: wait_for(native.sleep(0, value)),
}


def stop(value):
    """Give an iterator that gives nothing and ends with value."""
    return value
    yield


async def wait_for_first(awaitable):
    return (await awaitable)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_may_be_of_any_kind(bridge, kind):
    make = KINDS[kind]

    async def main():
        assert await bridge.join(make(1), bridge.sleep(0, 2), make(3)) == [1, 2, 3]
        assert await bridge.select(bridge.sleep(HOUR), make(4)) == 4
        assert await bridge.timeout(make(5), HOUR) == 5
        assert await bridge.join(bridge.timeout(bridge.select(make(6)), HOUR)) == [6]

    run(main)


def test_chapter_2_awaits_ours(bridge):
    async def main():
        module = import_or_skip("handmade_coroutine")
        return await module.add(bridge.sleep(0.001, 1), bridge.join(returns(2)))

    with pytest.raises(TypeError, match="unsupported operand"):
        run(main)

    async def numbers():
        module = import_or_skip("handmade_coroutine")
        return await module.add(bridge.sleep(0.001, 1), bridge.compute(10))

    assert run(numbers) == 56


def test_chapter_1_refuses_what_needs_a_loop(bridge):
    module = import_or_skip("manual_await")
    with pytest.raises(RuntimeError, match="no running event loop"):
        module.run(bridge.sleep(0))


def test_native_children_are_no_tasks(bridge):
    async def main():
        children = [bridge.sleep(HOUR) for _ in range(10)]
        inner = bridge.timeout(bridge.select(*children), HOUR)
        task = asyncio.create_task(bridge.join(inner, bridge.sleep(HOUR)))
        await turns(5)
        assert len(asyncio.all_tasks()) == 2
        assert all(inspect.getcoroutinestate(c) == "CORO_CLOSED" for c in children)
        return await cancelled(task)

    assert run(main) == "cancelled"


def test_python_children_run_as_tasks_of_their_own(combine):
    async def main():
        inside = await combine(this_task())
        assert asyncio.current_task() not in (inside, [inside])
        return inside

    async def this_task():
        return asyncio.current_task()

    run(main)


def test_python_children_begin_in_order(bridge):
    async def main():
        log = []

        async def begins(number):
            log.append(number)

        inner = bridge.join(begins(1), begins(2))
        await bridge.join(begins(0), inner, bridge.timeout(begins(3), HOUR), begins(4))
        return log

    assert run(main) == [0, 1, 2, 3, 4]


def test_a_task_or_a_future_is_awaited_itself(combine):
    async def main():
        task = asyncio.create_task(soon(1))
        before = asyncio.all_tasks()
        waits = asyncio.create_task(combine(task))
        await turns(1)
        assert asyncio.all_tasks() == before | {waits}
        await waits

    run(main)


def test_python_children_have_a_copy_of_the_callers_context(combine):
    variable = contextvars.ContextVar("variable")

    async def child():
        before = variable.get()
        variable.set("inside")
        await asyncio.sleep(0)
        return before, variable.get()

    async def main():
        variable.set("when it is made")
        coroutine = combine(combine(child()))
        variable.set("when it is awaited")
        result = await coroutine
        assert variable.get() == "when it is awaited"
        while isinstance(result, list):
            (result,) = result
        return result

    assert run(main) == ("when it is awaited", "inside")


def test_a_timeout_in_a_child_is_its_own_business(combine):
    async def child():
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(HOUR)
        except TimeoutError:
            return "in the child"

    async def main():
        assert await combine(child()) in ("in the child", ["in the child"])
        assert asyncio.current_task().cancelling() == 0

    run(main)


def test_the_same_future_may_be_given_twice(bridge):
    async def main():
        for make in pending_future, KINDS["task"]:
            future = make(7)
            assert await bridge.join(future, bridge.join(future), future) == [7, [7], 7]

    run(main)


def test_children_that_wake_again_and_again_are_all_heard(bridge):
    async def main():
        async def child(i):
            for _ in range(i % 7):
                await bridge.sleep(0.0001 * (i % 3))
            return await bridge.join(bridge.sleep(0, i), bridge.compute(i % 5))

        return await bridge.join(*[child(i) for i in range(200)])

    assert run(main) == [[i, [0, 1, 1, 2, 3][i % 5]] for i in range(200)]


# Exceptions


class Interrupt(BaseException):
    """What `except Exception` does not catch."""


ERRORS = [KeyError("k"), Interrupt("i"), ExceptionGroup("g", [ValueError("v")])]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_exception_of_a_child_comes_out_as_itself(combine, error):
    async def main():
        for make in fails, soon_fails:
            with pytest.raises(type(error)) as caught:
                await combine(combine(make(error)))
            assert caught.value is error
        future = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        with pytest.raises(type(error)) as caught:
            await combine(future)
        assert caught.value is error

    run(main)
    error.__traceback__ = None


def test_the_exception_of_ours_reaches_the_python_around_it(bridge):
    async def child():
        with pytest.raises(OverflowError):
            await bridge.compute(93)
        with pytest.raises(TimeoutError):
            await bridge.timeout(bridge.sleep(HOUR), 0)
        return "handled"

    async def main():
        return await bridge.join(child(), bridge.select(child()))

    assert run(main) == ["handled", "handled"]


def test_a_child_that_fails_cancels_the_others_and_they_are_waited_for(bridge):
    async def main():
        log, error = Log(), KeyError("first")
        gate = asyncio.Event()

        async def fails_later():
            await gate.wait()
            raise error

        future = asyncio.get_running_loop().create_future()
        waits = asyncio.create_task(log.waits("task"))
        task = asyncio.create_task(
            bridge.join(
                log.waits("a"),
                bridge.sleep(HOUR),
                fails_later(),
                bridge.compute(80),
                log.cleans_up("b"),
                future,
                waits,
            )
        )
        await turns(5)
        log.clear()
        gate.set()
        await turns(20)
        assert not task.done()
        assert future.cancelled() and waits.cancelled()
        assert nothing_sleeps()
        log.append("the cleanup may end")
        log.open("b")
        with pytest.raises(KeyError) as caught:
            await task
        assert caught.value is error
        return log

    assert run(main) == [
        ("a", "CancelledError"),
        ("b", "CancelledError"),
        ("task", "CancelledError"),
        "the cleanup may end",
        ("b", "cleaned up"),
    ]


def test_a_second_failure_is_told_to_the_loop(bridge):
    async def main():
        heard = problems()
        log, second = Log(), ValueError("second")
        with pytest.raises(KeyError, match="first"):
            await bridge.join(
                log.waits("a", raises(second)), soon_fails(KeyError("first"))
            )
        collect()
        await turns(2)
        return [(c["message"], c["exception"] is second) for c in heard]

    assert run(main) == [("exception of an awaitable was never retrieved", True)]


def test_a_failure_after_the_first_result_is_told_to_the_loop(bridge):
    async def main():
        heard = problems()
        log, second = Log(), ValueError("second")
        result = await bridge.select(log.waits("a", raises(second)), soon("first"))
        assert result == "first"
        collect()
        await turns(2)
        return [(c["message"], c["exception"] is second) for c in heard]

    assert run(main) == [("exception of an awaitable was never retrieved", True)]


def test_a_failure_that_comes_out_is_not_told_to_the_loop(combine):
    async def main():
        heard = problems()
        with pytest.raises(KeyError):
            await combine(soon_fails(KeyError()))
        collect()
        await turns(2)
        return heard

    assert run(main) == []


def test_after_a_failure_what_did_not_start_is_closed(bridge):
    async def main():
        log = []

        async def starts():
            log.append("started")

        future = asyncio.get_running_loop().create_future()
        future.set_exception(KeyError("at once"))
        child = starts()
        with pytest.raises(KeyError, match="at once"):
            await bridge.join(bridge.sleep(HOUR), future, child)
        assert inspect.getcoroutinestate(child) == "CORO_CLOSED"
        return log

    assert run(main) == []


def test_a_child_that_is_cancelled_cancels_the_others(bridge):
    async def main():
        log = Log()
        child = asyncio.create_task(asyncio.sleep(HOUR))
        task = asyncio.create_task(bridge.join(log.waits("a"), child))
        await turns(3)
        child.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled() and task.cancelling() == 0
        return log

    assert run(main) == [("a", "begins"), ("a", "CancelledError")]


# Cancellation


def test_cancelling_the_outside_cancels_the_inside(combine, bridge):
    async def main():
        log = Log()
        inner = bridge.join(bridge.sleep(HOUR), log.cleans_up("a"), bridge.compute(80))
        task = asyncio.create_task(combine(bridge.timeout(inner, HOUR)))
        await turns(5)
        task.cancel("stop")
        await turns(20)
        assert nothing_sleeps()
        assert log == [("a", "begins"), ("a", "CancelledError")]
        assert not task.done()
        log.open("a")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("stop",)
        assert task.cancelled()
        return log[-1]

    assert run(main) == ("a", "cleaned up")


def test_what_is_native_ends_at_once_when_it_is_cancelled(bridge):
    async def main():
        for make in [
            lambda: bridge.sleep(HOUR),
            lambda: bridge.compute(80),
            lambda: bridge.join(bridge.sleep(HOUR), bridge.compute(80)),
            lambda: bridge.select(bridge.sleep(HOUR), bridge.compute(80)),
            lambda: bridge.timeout(bridge.sleep(HOUR), HOUR),
        ]:
            task = asyncio.create_task(make())
            await turns(2)
            task.cancel()
            await turns(3)
            assert task.cancelled()

    run(main)


def test_a_second_cancellation_is_passed_on_again(combine):
    async def main():
        log = Log()
        task = asyncio.create_task(combine(combine(log.cleans_up("a"))))
        await turns(5)
        assert await cancelled(task, times=2) == "cancelled"
        return log

    assert run(main) == [
        ("a", "begins"),
        ("a", "CancelledError"),
        ("a", "cancelled again"),
    ]


def test_a_cancellation_while_the_others_clean_up_is_passed_on(bridge):
    async def main():
        log, error = Log(), KeyError("first")
        ends = []
        for first in soon_fails(error), soon("first"):
            combinator = (
                bridge.join if first.__name__ == "soon_fails" else bridge.select
            )
            task = asyncio.create_task(combinator(log.cleans_up("a"), first))
            await turns(20)
            assert not task.done()
            ends.append(await cancelled(task))
        assert (
            log
            == [
                ("a", "begins"),
                ("a", "CancelledError"),
                ("a", "cancelled again"),
            ]
            * 2
        )
        # A failure counts for more than a cancellation; a result does not.
        assert ends == [error, "cancelled"]

    run(main)


def test_a_cancellation_after_a_timeout_counts_for_more(bridge):
    async def main():
        log = Log()
        task = asyncio.create_task(bridge.timeout(log.cleans_up("a"), 0.001))
        await until(lambda: len(log) == 2)
        ended = await cancelled(task)
        return ended, log[-1]

    assert run(main) == ("cancelled", ("a", "cancelled again"))


def test_a_cancellation_reaches_each_child_once(bridge):
    """Also if one of them fails, or is done, while another still cleans up."""

    async def main():
        log, error = Log(), KeyError("in the cleanup")
        task = asyncio.create_task(
            bridge.join(
                bridge.join(log.cleans_up("a"), log.waits("b", raises(error))),
                log.cleans_up("c"),
            )
        )
        await turns(5)
        log.clear()
        task.cancel()
        await turns(20)
        log.open("a"), log.open("c")
        with pytest.raises(KeyError) as caught:
            await task
        assert caught.value is error
        return sorted(log)

    assert run(main) == [
        ("a", "CancelledError"),
        ("a", "cleaned up"),
        ("b", "CancelledError"),
        ("c", "CancelledError"),
        ("c", "cleaned up"),
    ]


def test_a_failure_in_the_cleanup_replaces_the_cancellation(combine):
    async def main():
        log, error = Log(), KeyError("in the cleanup")
        task = asyncio.create_task(combine(log.waits("a", raises(error))))
        await turns(5)
        return await cancelled(task) is error

    assert run(main)


async def stubborn():
    try:
        await asyncio.sleep(HOUR)
    except asyncio.CancelledError:
        return "suppressed"


@pytest.mark.parametrize("name", ["join", "select"])
def test_a_child_that_suppresses_it_does_not_swallow_the_cancellation(bridge, name):
    async def main():
        inner = getattr(bridge, name)(stubborn())
        task = asyncio.create_task(bridge.timeout(bridge.join(inner), HOUR))
        await turns(5)
        return await cancelled(task)

    assert run(main) == "cancelled"


def test_what_is_limited_may_suppress_a_cancellation(bridge):
    async def main():
        task = asyncio.create_task(bridge.timeout(stubborn(), HOUR))
        await turns(5)
        return await cancelled(task)

    assert run(main) == "suppressed"


DONE_LATE = {
    "future": lambda bridge, future: future,
    "task": lambda bridge, future: asyncio.ensure_future(wait_for(future)),
    "coroutine": lambda bridge, future: wait_for(future),
    "nested": lambda bridge, future: bridge.join(future),
}


@pytest.mark.parametrize("kind", DONE_LATE)
@pytest.mark.parametrize("turn", [0, 1, 2])
@pytest.mark.parametrize("end", ["result", "failure"])
def test_a_cancellation_that_comes_when_a_child_is_done_is_not_lost(
    combine, bridge, kind, turn, end
):
    async def main():
        problems()
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(combine(DONE_LATE[kind](bridge, future)))
        await turns(5)
        error = KeyError("failed")
        if end == "result":
            future.set_result(1)
        else:
            future.set_exception(error)
        await turns(turn)
        if not task.cancel():
            return  # it has ended already
        await asyncio.wait([task], timeout=PATIENCE)
        if turn == 0 and kind in ("future", "nested"):
            assert task.cancelled()
        # It may be that the child ends as if it was not cancelled: then it failed.
        assert task.cancelled() or task.exception() is error

    run(main)


def test_a_cancellation_that_comes_when_a_sleep_is_over_is_not_lost(combine, bridge):
    async def main():
        coroutine = combine(bridge.sleep(0))
        task = asyncio.create_task(coroutine)
        await turns(1)
        assert inspect.getcoroutinestate(coroutine) == "CORO_SUSPENDED"
        assert await cancelled(task) == "cancelled"
        task = asyncio.create_task(native.join(native.sleep(0.01)))
        await turns(1)
        wait_until(nothing_sleeps)
        return await cancelled(task)

    assert run(main) == "cancelled"


def test_a_timeout_of_asyncio_around_it_expires(combine, bridge):
    async def main():
        log = Log()
        log.open("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await combine(bridge.join(log.cleans_up("a"), bridge.sleep(HOUR)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(combine(bridge.sleep(HOUR)), 0.001)
        assert asyncio.current_task().cancelling() == 0
        return log[-1]

    assert run(main) == ("a", "cleaned up")


def test_a_task_group_cancels_it(combine):
    async def main():
        log = Log()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(combine(log.waits("a")))
                group.create_task(soon_fails(KeyError("k")))
        assert [type(error) for error in caught.value.exceptions] == [KeyError]
        return log

    assert run(main) == [("a", "begins"), ("a", "CancelledError")]


def test_a_shielded_child_goes_on(bridge):
    async def main():
        inside = asyncio.create_task(soon(3))
        with pytest.raises(KeyError):
            await bridge.join(asyncio.shield(inside), fails(KeyError()))
        return await inside

    assert run(main) == 3


def test_a_scope_of_anyio_cancels_it(combine, bridge):
    anyio = import_or_skip("anyio")

    async def main():
        log = Log()
        log.open("a")
        with anyio.move_on_after(0.001) as scope:
            await combine(bridge.join(log.cleans_up("a"), bridge.sleep(HOUR)))
        assert scope.cancelled_caught
        assert ("a", "CancelledError") in log
        assert nothing_sleeps()

    anyio.run(main)


@types.coroutine
def cancel_at(coroutine, number, task):
    """Await coroutine; when it suspends for that time (from 0 on), cancel the task."""
    iterator, value, error = coroutine.__await__(), None, None
    for suspension in itertools.count():
        try:
            if error is None:
                item = iterator.send(value)
            else:
                item = iterator.throw(error)
        except StopIteration as stop:
            return stop.value
        if suspension == number:
            task().cancel("here")
        value = error = None
        try:
            value = yield item
        except BaseException as raised:
            error = raised


def scenarios(bridge, log):
    """Return functions that make coroutines with many points of suspension."""

    async def child(name, times=2):
        log.append((name, 1))
        try:
            for _ in range(times):
                await asyncio.sleep(0)
            await bridge.sleep(0.001)
            return await bridge.join(bridge.sleep(0), soon())
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                log.append((name, -1))

    async def chain():
        for i in range(4):
            await bridge.sleep(0.001 * (i % 2))
        await bridge.join(child("a"), bridge.compute(5), bridge.select(child("b")))
        await bridge.timeout(child("c"), HOUR)
        return "chain"

    async def failing():
        try:
            await bridge.join(child("a"), soon_fails(KeyError()), child("b", 9))
        except KeyError:  # which counts for more than a cancellation after it
            if asyncio.current_task().cancelling():
                raise asyncio.CancelledError from None
        with contextlib.suppress(TimeoutError):
            await bridge.timeout(bridge.join(child("c"), bridge.sleep(HOUR)), 0.001)
        return "failing"

    return [
        chain,
        failing,
        lambda: bridge.sleep(0),
        lambda: bridge.sleep(0.001),
        lambda: bridge.compute(15),
        lambda: bridge.join(child("a"), bridge.sleep(0.001), child("b", 5)),
        lambda: bridge.select(child("a", 5), bridge.sleep(0.001), child("b")),
        lambda: bridge.timeout(bridge.select(child("a"), child("b", 5)), HOUR),
        lambda: bridge.join(child("a"), bridge.join(chain(), bridge.join(child("z")))),
    ]


@pytest.mark.parametrize("scenario", range(9))
def test_it_can_be_cancelled_wherever_it_suspends(bridge, scenario):
    async def main(number, log):
        make = scenarios(bridge, log)[scenario]
        task = asyncio.create_task(wait_for(cancel_at(make(), number, lambda: task)))
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()
        assert len(asyncio.all_tasks()) == 1, "children are waited for"
        assert nothing_sleeps()
        names = {name for name, _ in log}
        assert all(sum(n for who, n in log if who == name) == 0 for name in names)
        if not task.cancelled():
            assert task.cancelling() == 0, "a cancellation was swallowed"
            task.result()
            return False
        return True

    numbers = itertools.takewhile(lambda n: run(main, n, []), range(1000))
    assert 1 <= len(list(numbers)) < 500


# Bad input

NAN, INFINITE = float("nan"), float("inf")
WRONG = [
    ("sleep", [], TypeError),
    ("sleep", [1, 2, 3], TypeError),
    ("sleep", ["1"], TypeError),
    ("sleep", [None], TypeError),
    ("sleep", [1j], TypeError),
    ("sleep", [-1], ValueError),
    ("sleep", [-0.001], ValueError),
    ("sleep", [NAN], ValueError),
    ("sleep", [INFINITE], ValueError),
    ("sleep", [-INFINITE], ValueError),
    ("sleep", [1e9 + 1], ValueError),
    ("sleep", [10**400], (ValueError, OverflowError)),
    ("compute", [], TypeError),
    ("compute", [1, 2], TypeError),
    ("compute", ["1"], TypeError),
    ("compute", [None], TypeError),
    ("compute", [1.5], TypeError),
    ("compute", [-1], ValueError),
    ("compute", [-(2**63)], ValueError),
    ("compute", [-(10**30)], (ValueError, OverflowError)),
    ("join", [], TypeError),
    ("select", [], TypeError),
    ("timeout", [], TypeError),
]


@pytest.mark.parametrize(("name", "args", "error"), WRONG)
def test_wrong_arguments_are_an_error_of_the_call(bridge, name, args, error):
    with pytest.raises(error):
        getattr(bridge, name)(*args)


@pytest.mark.parametrize(("name", "args", "error"), WRONG[2:12])
def test_a_wrong_delay_of_a_timeout_closes_what_it_was_given(bridge, name, args, error):
    children = [returns(), bridge.sleep(0), bridge.join(returns())]
    for child in children:
        with pytest.raises(error):
            bridge.timeout(child, *args)
        collect()
        assert inspect.getcoroutinestate(child) == "CORO_CLOSED"


def test_a_timeout_needs_a_delay(bridge):
    with contextlib.closing(returns()) as child, pytest.raises(TypeError):
        bridge.timeout(child)


def test_a_number_that_no_long_long_has_is_an_overflow_error(bridge):
    with pytest.raises(OverflowError):
        asyncio.run(wait_for(bridge.compute(10**30)))


@pytest.mark.parametrize("wrong", [3, None, "text", int, returns, [], object()])
def test_what_cannot_be_awaited_closes_the_others(bridge, wrong):
    for function in bridge.join, bridge.select:
        grandchild = returns()
        children = [returns(), bridge.sleep(0), bridge.join(grandchild), returns()]
        with pytest.raises(TypeError, match=r"can't be (awaited|used)"):
            function(*children[:2], wrong, *children[2:])
        collect()
        for child in children:
            assert inspect.getcoroutinestate(child) == "CORO_CLOSED"
        del child, children  # a closed coroutine of Python 3.12 keeps its arguments
        collect()
        assert inspect.getcoroutinestate(grandchild) == "CORO_CLOSED"
    with pytest.raises(TypeError):
        bridge.timeout(wrong, 1)


class HasClose:
    """An awaitable that has a close() which means something else."""

    count = 0

    def __await__(self):
        return stop(1)

    def close(self):
        self.count += 1


def test_only_coroutines_are_closed(combine, bridge):
    thing = HasClose()
    combine(thing).close()
    for wrong in [lambda: bridge.join(thing, 3), lambda: bridge.timeout(thing, "1")]:
        with pytest.raises(TypeError):
            wrong()
    collect()
    assert thing.count == 0


def test_tasks_and_futures_survive_when_another_argument_is_wrong(bridge):
    async def main():
        task = asyncio.create_task(soon(3))
        for function in bridge.join, bridge.select:
            with pytest.raises(TypeError):
                function(task, None)
        collect()
        return await task

    assert run(main) == 3


NOT_FRESH = {
    "native": lambda bridge: bridge.sleep(0),
    "combined": lambda bridge: bridge.join(returns()),
    "coroutine": lambda bridge: returns(),
}


@pytest.mark.parametrize("kind", NOT_FRESH)
def test_a_coroutine_cannot_be_given_twice(bridge, kind):
    async def main(function):
        first, last = returns(), returns()
        child = NOT_FRESH[kind](bridge)
        with pytest.raises(RuntimeError, match="await"):
            await function(first, child, child, last)
        collect()
        for each in first, child, last:
            assert inspect.getcoroutinestate(each) == "CORO_CLOSED"

    run(main, bridge.join)


def test_a_coroutine_that_waits_cannot_be_given_twice(bridge):
    async def main():
        child = asyncio.sleep(0.001)
        with pytest.raises(RuntimeError, match="await"):
            await bridge.join(child, child)
        assert inspect.getcoroutinestate(child) == "CORO_CLOSED"

    run(main)


@pytest.mark.parametrize("kind", NOT_FRESH)
def test_a_coroutine_that_has_ended_cannot_be_given(combine, bridge, kind):
    async def main():
        child = NOT_FRESH[kind](bridge)
        child.close()
        other = returns()
        with pytest.raises(
            RuntimeError, match="cannot reuse already awaited coroutine"
        ):
            await combine(child, other)
        other.close()
        with pytest.raises(
            RuntimeError, match="cannot reuse already awaited coroutine"
        ):
            await bridge.join(other, bridge.join(child))

    run(main)


def test_a_coroutine_of_ours_that_waits_cannot_be_given(combine, bridge):
    async def main():
        child = bridge.sleep(0.001, "goes on")
        task = asyncio.create_task(child)
        await turns(2)
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            combine(child)
        return await asyncio.wait_for(task, 5)

    assert run(main) == "goes on"


def test_a_coroutine_of_another_module_that_waits_cannot_be_given(combine):
    add = import_or_skip("handmade_coroutine").add

    async def main():
        gate = asyncio.get_running_loop().create_future()
        child = add(gate, gate)
        task = asyncio.create_task(child)
        await turns(2)
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            combine(child)
        gate.set_result(2)
        return await asyncio.wait_for(task, PATIENCE)

    assert run(main) == 4


def test_a_coroutine_that_waits_cannot_be_given(combine):
    async def main():
        task = asyncio.create_task(soon_fails(KeyError()))
        await turns(1)
        with pytest.raises(RuntimeError):
            await combine(task.get_coro())
        await asyncio.wait([task])
        task.exception()

    run(main)


def test_a_running_coroutine_cannot_be_given(combine):
    async def main():
        with pytest.raises(RuntimeError, match="await"):
            combine(asyncio.current_task().get_coro())

    run(main)


def test_without_a_loop_it_cannot_be_awaited(made):
    make, _, _ = made
    coroutine = make()
    with pytest.raises(RuntimeError, match="no running event loop"):
        coroutine.send(None)
    assert inspect.getcoroutinestate(coroutine) == "CORO_CLOSED"


@pytest.fixture
def other_loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_a_future_of_another_loop_is_refused(combine, other_loop):
    async def main():
        foreign, log = other_loop.create_future(), Log()
        child = log.waits("a")
        async with asyncio.timeout(5):
            with pytest.raises(ValueError, match="loop"):
                await combine(foreign)
            with pytest.raises(ValueError, match="loop"):
                await combine(model.join(child, native.join(foreign)))
        assert inspect.getcoroutinestate(child) == "CORO_CLOSED"
        assert len(asyncio.all_tasks()) == 1
        assert not foreign.done()

    run(main)


BEGUN = {
    "sleep": lambda bridge, log: bridge.sleep(HOUR),
    "select": lambda bridge, log: bridge.select(bridge.sleep(HOUR)),
    "coroutine": lambda bridge, log: bridge.join(log.waits("a")),
}


@pytest.mark.parametrize("kind", BEGUN)
def test_another_loop_cannot_drive_what_is_begun(bridge, other_loop, kind):
    log = Log()

    async def begin():
        coroutine = BEGUN[kind](bridge, log)
        coroutine.send(None)
        await turns(2)
        return coroutine

    coroutine = other_loop.run_until_complete(begin())

    async def main():
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await coroutine
        task = asyncio.create_task(coroutine)
        await asyncio.wait([task], timeout=5)
        ended = task.done()
        if not ended:
            coroutine.close()  # so that it does not hang
        return ended and task.exception()

    error = run(main)
    other_loop.run_until_complete(turns(3))
    assert isinstance(error, RuntimeError)
    assert log in ([], [("a", "begins"), ("a", "CancelledError")])


class NotIterator:
    def __await__(self):
        return 3


class Raises:
    def __await__(self):
        raise KeyError("from __await__")


@pytest.mark.parametrize("kind", [NotIterator, Raises])
def test_an_await_that_goes_wrong_is_an_error_of_the_child(combine, kind):
    async def main():
        with pytest.raises((TypeError, KeyError)) as caught:
            await combine(combine(kind()))
        assert caught.type is (TypeError if kind is NotIterator else KeyError)

    run(main)


def test_a_task_factory_that_fails_is_no_leak(bridge):
    async def main():
        log = Log()

        def factory(loop, coroutine, **options):
            if coroutine.__name__ == "returns":
                coroutine.close()
                raise LookupError("no task")
            return asyncio.Task(coroutine, loop=loop, **options)

        asyncio.get_running_loop().set_task_factory(factory)
        with pytest.raises(LookupError, match="no task"):
            await bridge.join(bridge.sleep(HOUR), log.waits("a"), returns())
        asyncio.get_running_loop().set_task_factory(None)
        await turns(3)
        assert len(asyncio.all_tasks()) == 1
        assert nothing_sleeps()

    run(main)


# Loops


def test_two_loops_run_in_two_threads(bridge):
    both = threading.Barrier(2)
    results = []

    async def main():
        both.wait()
        sleeps = [bridge.sleep(i / 10000, i) for i in range(100)]
        return await bridge.join(
            bridge.join(*sleeps), *[wait_for(bridge.compute(i)) for i in range(10)]
        )

    threads = [
        threading.Thread(target=lambda: results.append(run(main))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[list(range(100)), 0, 1, 1, 2, 3, 5, 8, 13, 21, 34]] * 2


def test_two_loops_run_in_a_row(bridge):
    async def main():
        left = asyncio.create_task(bridge.sleep(HOUR))
        await bridge.join(bridge.sleep(0.001), bridge.compute(3), returns())
        return left

    assert run(main).cancelled()
    assert run(main).cancelled()
    assert nothing_sleeps()


def test_what_is_made_outside_of_a_loop_runs_in_one(made):
    make, expected, _ = made
    assert asyncio.run(make()) == expected


SUSPENDED = {
    "sleep": lambda bridge: bridge.sleep(HOUR),
    "compute": lambda bridge: bridge.compute(80),
    "join": lambda bridge: bridge.join(bridge.sleep(HOUR), bridge.compute(80)),
    "timeout": lambda bridge: bridge.timeout(bridge.select(bridge.sleep(HOUR)), HOUR),
}


@pytest.mark.parametrize("kind", SUSPENDED)
@pytest.mark.parametrize("how", ["by hand", "in a task"])
def test_a_loop_may_be_closed_with_coroutines_suspended_in_it(bridge, kind, how):
    loop = asyncio.new_event_loop()

    async def begin():
        coroutine = SUSPENDED[kind](bridge)
        if how == "by hand":
            coroutine.send(None)
            return weakref.ref(coroutine), coroutine
        task = asyncio.create_task(coroutine)
        task._log_destroy_pending = False  # a Task complains
        await turns(2)
        return weakref.ref(coroutine), task

    dead, kept = loop.run_until_complete(begin())
    loop.close()
    collect()
    assert dead() is not None
    del kept, loop
    collect()
    assert dead() is None
    assert nothing_sleeps()


def test_a_child_of_python_is_dropped_in_silence_when_its_loop_is_closed():
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.add_done_callback(print)  # which a closed loop refuses to call

    async def begin():
        coroutine = native.join(future, native.sleep(HOUR))
        coroutine.send(None)
        return coroutine

    coroutine = loop.run_until_complete(begin())
    loop.close()
    coroutine.close()  # an unraisable exception would fail the test
    assert nothing_sleeps()


def test_what_ends_after_its_loop_is_closed_is_not_heard(bridge):
    loop = asyncio.new_event_loop()

    async def begin():
        coroutine = bridge.join(bridge.sleep(0.02), bridge.compute(20))
        coroutine.send(None)
        return coroutine

    coroutine = loop.run_until_complete(begin())
    loop.close()
    wait_until(lambda: nothing_sleeps() and nothing_is_computed())
    asyncio.run(bridge.join(bridge.sleep(0.05), bridge.compute(20)))
    assert inspect.getcoroutinestate(coroutine) == "CORO_SUSPENDED"
    coroutine.close()


class NoReaders(asyncio.SelectorEventLoop):
    """A loop that watches no descriptors, such as the one of Windows."""

    def add_reader(self, *args):
        raise NotImplementedError


def test_a_loop_that_has_no_add_reader_is_refused_by_the_native_one(made, bridge):
    make, expected, _ = made
    with asyncio.Runner(loop_factory=NoReaders) as runner:
        if bridge is model:  # named difference: it writes to no descriptor
            assert runner.run(make()) == expected
            return
        coroutine = make()
        with pytest.raises(RuntimeError, match="add_reader"):
            runner.run(coroutine)
        assert inspect.getcoroutinestate(coroutine) == "CORO_CLOSED"


def test_another_thread_cancels_what_it_submitted(bridge):
    log, begun = Log(), threading.Event()

    async def main():
        begun.set()
        await bridge.join(log.waits("a"), bridge.sleep(HOUR))

    with loop_in_a_thread() as loop:
        submitted = asyncio.run_coroutine_threadsafe(main(), loop)
        assert begun.wait(PATIENCE)
        assert submitted.cancel()
        wait_until(lambda: ("a", "CancelledError") in log)
        wait_until(nothing_sleeps)
        asyncio.run_coroutine_threadsafe(turns(5), loop).result(timeout=PATIENCE)


# Depth

DEEP = 10_000
# Each level is a call of the model's, and Python limits their number.
DEPTHS = [(model, 100), (native, DEEP)]
each_depth = pytest.mark.parametrize(
    ("bridge", "depth"), DEPTHS, ids=["model", "native"]
)
NEST = {
    "join": lambda bridge, inner: bridge.join(inner),
    "select": lambda bridge, inner: bridge.select(inner),
    "timeout": lambda bridge, inner: bridge.timeout(inner, HOUR),
}


def nested(bridge, name, depth, inner):
    for _ in range(depth):
        inner = NEST[name](bridge, inner)
    return inner


def unwrapped(value):
    """Return what is in a list in a list in ..., and how deep."""
    depth = 0
    while isinstance(value, list):
        (value,) = value
        depth += 1
    return value, depth


@each_depth
@pytest.mark.parametrize("name", NEST)
def test_nested_deep_it_gives_its_result(bridge, depth, name):
    async def main():
        for child in bridge.sleep(0, "deep"), bridge.sleep(0.001, "deep"), soon("deep"):
            coroutine = nested(bridge, name, depth, child)
            value, levels = unwrapped(await coroutine)
            assert value == "deep"
            assert levels == (depth if name == "join" else 0)
        with pytest.raises(OverflowError):
            await nested(bridge, name, depth, bridge.compute(93))
        with pytest.raises(KeyError):
            await nested(bridge, name, depth, soon_fails(KeyError()))

    run(main)


@each_depth
@pytest.mark.parametrize("name", NEST)
def test_nested_deep_it_can_be_cancelled_closed_and_dropped(bridge, depth, name):
    async def main():
        log = Log()
        for child in bridge.sleep(HOUR), log.waits("a"):
            task = asyncio.create_task(nested(bridge, name, depth, child))
            await turns(5)
            assert await cancelled(task) == "cancelled"
        assert log == [("a", "begins"), ("a", "CancelledError")]
        nested(bridge, name, depth, returns()).close()
        coroutine = nested(bridge, name, depth, bridge.sleep(HOUR))
        coroutine.send(None)
        coroutine.close()
        coroutine = nested(bridge, name, depth, bridge.sleep(HOUR))
        coroutine.send(None)
        del coroutine
        collect()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            nested(bridge, name, depth, returns())
            collect()
            messages = [str(warning.message) for warning in caught]
            caught.clear()  # a warning has the coroutine that it is about
            collect()
        assert messages == [f"coroutine '{name}' was never awaited"]

    run(main)


@pytest.mark.parametrize("name", NEST)
def test_nested_deep_with_coroutines_between_it_gives_its_result(bridge, name):
    async def main(end):
        inner = end
        for _ in range(DEEP):
            inner = NEST[name](bridge, wait_for(inner))
        value, levels = unwrapped(await inner)
        assert levels == (DEEP if name == "join" else 0)
        return value

    assert run(main, bridge.sleep(0, "deep")) == "deep"
    with pytest.raises(OverflowError):
        run(main, bridge.compute(93))


def test_nested_deep_with_coroutines_between_it_can_be_cancelled(bridge):
    async def main():
        log = Log()
        inner = log.waits("a")
        for _ in range(DEEP):
            inner = bridge.join(wait_for(inner))
        task = asyncio.create_task(inner)
        await until(lambda: log)
        assert await cancelled(task) == "cancelled"
        return log

    assert run(main) == [("a", "begins"), ("a", "CancelledError")]


def test_wide_joins_and_selects_end(bridge):
    async def main():
        count = 3000
        results = await bridge.join(*[soon(i) for i in range(count)])
        assert results == list(range(count))
        sleeps = [bridge.sleep(HOUR) for _ in range(count)]
        return await bridge.select(*sleeps, soon("first"), *[soon() for _ in range(9)])

    assert run(main) == "first"


# What the native one counts


def test_a_cancellation_removes_the_entry_of_a_sleep_at_once():
    async def main():
        tasks = [asyncio.create_task(native.sleep(HOUR)) for _ in range(100)]
        tasks.append(asyncio.create_task(native.timeout(native.sleep(HOUR), HOUR)))
        await turns(2)
        assert counted("sleepers") == 102
        for number in range(100, -1, -2):
            tasks[number].cancel()
        await turns(2)
        assert counted("sleepers") == 50
        for task in tasks:
            task.cancel()
        await turns(2)
        return counted("sleepers")

    assert run(main) == 0


def test_the_entries_that_stay_wake_in_order_after_others_were_removed():
    async def main():
        woken = []

        async def sleep(i):
            woken.append(await native.sleep(0.05 + i / 1000, i))

        order = [(i * 37) % 101 for i in range(101)]
        tasks = {i: asyncio.create_task(sleep(i)) for i in order}
        await turns(2)
        for i in range(0, 101, 3):
            tasks.pop(i).cancel()
        await asyncio.wait(tasks.values())
        return woken

    woken = run(main)
    assert sorted(woken) == [i for i in range(101) if i % 3]


def test_many_completions_are_one_wake():
    count = 10_000

    async def main():
        sleeps = [native.sleep(0.05, i) for i in range(count)]
        task = asyncio.create_task(native.join(*sleeps))
        await turns(1)
        wait_until(nothing_sleeps)  # the loop does not turn
        assert await task == list(range(count))
        return counted("wakes"), counted("writes")

    wakes, writes = run(main)
    assert 1 <= wakes <= 3
    assert 1 <= writes <= 3


def test_many_tasks_are_woken_by_one_write():
    async def main():
        tasks = [asyncio.create_task(native.sleep(0.05)) for _ in range(1000)]
        await turns(1)
        wait_until(nothing_sleeps)  # the loop does not turn
        await asyncio.wait(tasks)
        return counted("wakes"), counted("writes")

    wakes, writes = run(main)
    assert wakes == 1000
    assert 1 <= writes <= 3


def test_a_cancelled_computation_stops():
    async def main():
        tasks = [asyncio.create_task(native.compute(80)) for _ in range(20)]
        await turns(3)
        assert counted("jobs") == 20
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(nothing_is_computed)
        return await native.compute(20)

    assert run(main) == 6765


@pytest.mark.parametrize("end", ["closed", "dropped", "abandoned"])
def test_a_computation_that_nobody_waits_for_stops(end):
    async def main():
        if end == "abandoned":
            with pytest.raises(TimeoutError):
                await native.timeout(native.compute(80), 0.001)
        else:
            coroutine = native.compute(80)
            coroutine.send(None)
            if end == "closed":
                coroutine.close()
            del coroutine
        await until(nothing_is_computed)

    run(main)


def test_what_was_woken_twice_at_once_is_freed():
    async def main():
        task = asyncio.create_task(native.timeout(native.sleep(0.01), 0.02))
        await turns(2)
        time.sleep(0.1)  # both sleepers wake the task before the loop looks
        await task

    def futures():
        kinds = [str(type(each)) for each in gc.get_objects()]
        return kinds.count("<class 'native_future_bridge.future'>")

    collect()
    before = futures()
    run(main)
    collect()
    assert futures() == before


def test_each_loop_has_one_mailbox():
    async def main(count):
        for _ in range(count):
            await native.join(native.sleep(0), native.sleep(0.001))
        return counted("mailboxes")

    assert run(main, 1) == 1
    wait_until(no_mailbox_is_left)
    assert run(main, 5) == 1


def test_a_thousand_loops_leave_no_descriptor_open():
    folder = "/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"

    def descriptors():
        collect()
        return len(os.listdir(folder))

    async def main():
        await native.sleep(0)

    run(main)
    before = descriptors()
    for _ in range(1000):
        run(main)
    assert descriptors() == before


def test_the_counters_are_numbers():
    counters = native.counters()
    names = ["done", "jobs", "mailboxes", "sleepers", "wakes", "writes"]
    assert sorted(counters) == names
    assert all(type(count) is int for count in counters.values())


def test_names_and_signatures():
    for name in MAKE:
        function = getattr(native, name)
        assert inspect.signature(function) == inspect.signature(getattr(model, name))
        assert function.__name__ == name and function.__doc__


# Beside asyncio


def test_the_twins_alone_do_what_is_said_of_them():
    """The control: what is compared with ours is what the pages say."""
    for function in [
        test_join_gives_all_results_in_order,
        test_select_gives_the_first_result,
        test_select_waits_for_the_cleanup_of_the_others,
        test_timeout_waits_for_the_cleanup_of_what_it_abandons,
        test_a_cancellation_while_the_others_clean_up_is_passed_on,
        test_a_cancellation_after_a_timeout_counts_for_more,
        test_a_cancellation_reaches_each_child_once,
        test_what_is_limited_may_suppress_a_cancellation,
    ]:
        function(native_trees.twins)


@pytest.mark.parametrize("seed", range(4))
def test_random_trees_end_as_they_do_in_asyncio(bridge, seed):
    cases = native_trees.some_cases(seed, 100)
    theirs, left = native_trees.outcomes(native_trees.twins, cases)
    ours, left_by_ours = native_trees.outcomes(bridge, cases)
    assert left == left_by_ours == 0
    assert len({ending for (ending, _), _ in theirs}) > 3
    different = [each for each in zip(cases, theirs, ours, strict=True)]
    different = [each for each in different if each[1] != each[2]]
    # The smallest is the most telling.
    assert min(different, key=lambda each: len(repr(each[0])), default=None) is None
