"""The life of the threads of chapter 3, which test_thread_woken_future.py tests.

The processes that they start are in tests/isolated. EXITS=N in the environment ends
a process N times in each way, where 20 is what it is without.
"""

import asyncio
import concurrent.futures
import os
import re
import sys
import threading

import pytest
import thread_woken_future as native
from conftest import end_isolated, run_isolated

FUNCTIONS = "square", "subclassed_square"
HOUR = 3600
EXITS = int(os.environ.get("EXITS", 20))
EXIT = "exit_thread_woken_future.py"
FORK = "fork_thread_woken_future.py"
INTERPRETERS = "subinterpreter_thread_woken_future.py"

each_function = pytest.mark.parametrize("function", FUNCTIONS)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork() here")


### The end of the process
WAYS = [
    "after_run",
    "at_exit",
    "open_loop",
    "dropped",
    "awaited",
    "in_a_cycle",
    "in_builtins",
    "in_a_codec",
    "with_hundred",
    "finishing",
    "finishing_while_closed",
    "exit_within",
    "exits",
    "raises",
    "raises_within",
    "in_a_daemon",
    "busy_daemon",
    "interrupt",
    "interrupt_select",
    "interrupt_outside",
]


def end_of(kind, way):
    """Run one process to its end; return its status and its stderr, comparable."""
    status, _, err = end_isolated(EXIT, kind, way)
    return status, re.sub("wait_for=<.*>", "wait_for=<a future>", err)


@pytest.mark.parametrize("way", WAYS)
def test_a_pending_future_changes_nothing_at_the_end_of_the_process(way):
    expected = end_of("plain", way)
    for function in FUNCTIONS:
        assert end_of(function, way) == expected


@pytest.mark.once
@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_the_process_is_the_same_each_time(way):
    expected = end_of("plain", way)
    kinds = FUNCTIONS * (EXITS // len(FUNCTIONS))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for end in pool.map(end_of, kinds, [way] * len(kinds)):
            assert end == expected


@each_function
def test_when_the_interpreter_ends_no_thread_starts(function):
    status, out, err = end_isolated(EXIT, function, "at_exit")
    assert (status, err) == (0, "")
    assert out == "can't start new thread at interpreter shutdown\n"


@each_function
def test_a_python_that_warns_of_everything_has_nothing_to_say(function):
    options = ["-X", "dev", "-W", "error", "-bb"]
    assert end_isolated(EXIT, function, "completed", options=options) == (0, "", "")


### A fork
CASES = [
    "pending",
    "awaited",
    "dropped",
    "done",
    "closed",
    "within",
    "in_a_thread",
    "other_hooks",
    "before_our_hook",
    "hundred",
    "finishing",
]


@needs_fork
@each_function
@pytest.mark.parametrize("case", CASES)
def test_fork(function, case):
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("a child may wait for a lock of AddressSanitizer itself")
    assert run_isolated(FORK, function, case) == "done\n"


### Races
@pytest.mark.once
@each_function
@pytest.mark.parametrize("case", ["cancel", "awaiting", "close", "run"])
def test_the_end_of_a_future_may_race_with_its_thread(function, case):
    run_isolated("races_thread_woken_future.py", function, case)


@pytest.mark.parametrize("case", ["methods", "iterator", "cancelled"])
def test_two_threads_may_use_one_future(case):
    assert run_isolated("threads_thread_woken_future.py", case) == "done\n"


### Other interpreters
def run_control(case):
    """Skip the test if subinterpreters do not survive `case` without us."""
    status, out, err = end_isolated(INTERPRETERS, "plain", case)
    if status == 77:
        pytest.skip(out.splitlines()[-1])
    if status:
        pytest.skip(f"plain asyncio ends a subinterpreter with {status}")
    return status, out, err


@pytest.mark.parametrize("case", ["use", "in_flight", "together"])
def test_subinterpreters(case):
    run_control("together" if case == "together" else "use")
    assert run_isolated(INTERPRETERS, "native", case) == "done\n"


# There it hangs with asyncio and threading alone, too.
@pytest.mark.skipif(sys.version_info[:2] == (3, 13), reason="3.13 may hang at its end")
def test_a_subinterpreter_may_be_left_to_the_end_of_the_process():
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer fails when Python ends a thread")
    expected = run_control("left")  # from 3.14 on there is a warning
    assert end_isolated(INTERPRETERS, "native", "left") == expected


### Several loops
@each_function
def test_two_loops_run_in_two_threads(function):
    start = getattr(native, function)
    both = threading.Barrier(2)
    results = []

    async def main():
        both.wait()
        return await asyncio.gather(*[start(i, i / 10000) for i in range(100)])

    def run():
        results.append(asyncio.run(main()))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[i * i for i in range(100)]] * 2


@each_function
def test_two_loops_run_in_a_row(function):
    start = getattr(native, function)
    left = []

    async def main():
        left.append(start(1, HOUR))
        return await start(3, 0)

    assert [asyncio.run(main()), asyncio.run(main())] == [9, 9]
    assert not any(future.done() for future in left)
    for future in left:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            future.add_done_callback(print), future.cancel()
        assert future.cancelled()


@each_function
def test_another_loop_refuses_the_future(function):
    start = getattr(native, function)
    control = asyncio.new_event_loop()
    refusals = []

    async def begin():
        return control.create_future(), start(3, HOUR)

    async def wait(future):
        try:
            await future
        except RuntimeError as error:
            refusals.append(str(error).partition(" got Future ")[2])

    futures = control.run_until_complete(begin())
    for future in futures:
        asyncio.run(wait(future))
    assert [refusal.rpartition("> ")[2] for refusal in refusals] == [
        "attached to a different loop"
    ] * 2
    for future in futures:
        assert future.cancel()
    control.close()


### Not enough of something
def test_without_memory_a_call_fails_and_loses_nothing():
    assert int(run_isolated("nomemory_thread_woken_future.py")) > 300


@each_function
def test_without_a_thread_a_call_fails_and_loses_nothing(function):
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer needs more memory than it may have")
    assert run_isolated("limits_thread_woken_future.py", function) == "done\n"


@each_function
def test_nothing_leaks(function):
    run_isolated("leaks_thread_woken_future.py", function)
