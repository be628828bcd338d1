"""How native futures end, which test_native_future_bridge.py tests.

The processes that they start are in tests/isolated. In the environment, EXITS=N ends
a process N times in each way, where 20 is what it is without, and WAKES=N lets N
native futures end in the hunt for one that nobody hears of, where 50000 is.
"""

import concurrent.futures
import os
import re
import sys
import sysconfig

import pytest
from conftest import end_isolated, run_isolated, small_stack, survives

EXITS = int(os.environ.get("EXITS", 20))
EXIT = "exit_native_future_bridge.py"
INTERPRETERS = "subinterpreter_native_future_bridge.py"
RECURSION = "recursion_native_future_bridge.py"
HAS_ASAN = "libasan" in os.environ.get("LD_PRELOAD", "")

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork() here")


### The end of the process
NATIVES = "sleep", "compute", "join", "nested"
CANCELLED = [
    "after_run",
    "with_hundred",
    "exit_within",
    "raises_within",
    "interrupt",
    "interrupt_select",
]
CLOSED = ["closed", "dropped_and_closed"]
OPEN = [
    "open_loop",
    "dropped",
    "in_builtins",
    "in_a_codec",
    "hundred_left_open",
    "exits",
    "raises",
    "interrupt_outside",
]
OTHER = ["ends_at_once", "in_a_daemon", "busy_daemon", "finishing"]
WAYS = CANCELLED + CLOSED + OPEN + OTHER


def end_of(kind, way):
    """Run one process to its end; return its status and its stderr, comparable."""
    status, _, err = end_isolated(EXIT, kind, way)
    err = re.sub("wait_for=<.*>", "wait_for=<a future>", err)
    err = re.sub('  File "bridge_coroutine.h", line .*\n', "", err)
    if way in OPEN:
        # A loop that is open, and has no end, keeps what waits for a native future.
        err = re.sub("Task was destroyed but it is pending!\ntask: .*\n", "", err)
        err = re.sub(".*ResourceWarning: .*\n(  _warn.*\n)?", "", err)  # if debugging
    return status, err


@pytest.mark.parametrize("way", WAYS)
def test_a_native_future_in_flight_changes_nothing_at_the_end_of_the_process(way):
    kinds = [*NATIVES, "mixed"] if way in CANCELLED else NATIVES
    expected = end_of("plain", way)
    for kind in kinds:
        assert end_of(kind, way) == expected, kind


@pytest.mark.once
@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_the_process_is_the_same_each_time(way):
    expected = end_of("plain", way)
    kinds = NATIVES * (EXITS // len(NATIVES))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for end in pool.map(end_of, kinds, [way] * len(kinds)):
            assert end == expected


def test_a_python_that_warns_of_everything_has_nothing_to_say_of_native_futures():
    options = ["-X", "dev", "-W", "error", "-bb"]
    assert end_isolated(EXIT, "nested", "after_run", options=options) == (0, "", "")


### A fork
CASES = [
    "pending",
    "dropped",
    "python_only",
    "refused",
    "bell",
    "closed",
    "within",
    "within_a_poll",
    "in_a_thread",
    "finishing",
]


@needs_fork
@pytest.mark.parametrize("case", CASES)
def test_fork_with_native_futures_in_flight(case):
    if HAS_ASAN:
        pytest.skip("a child may wait for a lock of AddressSanitizer itself")
    assert run_isolated("fork_native_future_bridge.py", case) == "done\n"


### Races
RACES = ["cancel", "limit", "close", "run"]


@pytest.mark.once
@pytest.mark.parametrize("case", RACES)
def test_the_end_of_a_native_future_may_race_with_its_loop(case):
    run_isolated("races_native_future_bridge.py", case)


def test_no_end_of_a_native_future_goes_unheard():
    limit = max(100, int(os.environ.get("WAKES", 0)) // 1000)
    run_isolated("races_native_future_bridge.py", "lost", timeout=limit)


@pytest.mark.parametrize("case", ["loops", "short_loops", "adopted", "ended_elsewhere"])
def test_loops_in_several_threads_share_the_timer_and_the_pool(case):
    assert run_isolated("threads_native_future_bridge.py", case) == "done\n"


### Other interpreters
@pytest.mark.parametrize("case", ["use", "in_flight", "together"])
def test_native_futures_in_subinterpreters(case):
    control = "together" if case == "together" else "use"
    status, out, _ = end_isolated(INTERPRETERS, "plain", control)
    if status == 77:
        pytest.skip(out.splitlines()[-1])
    if status:
        pytest.skip(f"plain asyncio ends a subinterpreter with {status}")
    assert run_isolated(INTERPRETERS, "native", case) == "done\n"


### Depth
NESTS = ["native", "mixed", "few_mixed", "wide"]
USES = ["built", "unawaited", "ran", "failed", "cancelled", "dropped"]


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("use", USES)
def test_ten_thousand_native_futures_in_one_another(use, nest):
    assert run_isolated(RECURSION, f"{use}-{nest}") == "done\n"


@pytest.fixture(scope="module")
def stack():
    """Return the stack, in KiB, that plain Python needs for a chain of coroutines."""
    size = small_stack(RECURSION, "built-plain", "unawaited-plain")
    # There Python counts calls, and one of a coroutine is several of C here.
    return size * 2 if (3, 12) <= sys.version_info < (3, 14) else size


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("use", USES)
def test_ten_thousand_native_futures_in_a_small_stack(use, nest, stack):
    control = f"{use}-gathered"
    if nest != "native" and not survives(RECURSION, control, stack):
        pytest.skip("plain tasks in one another crash with this stack")
    assert run_isolated(RECURSION, f"{use}-{nest}", stack) == "done\n"


### Not enough of something
def test_without_memory_a_call_of_a_native_future_fails_and_loses_nothing():
    assert int(run_isolated("nomemory_native_future_bridge.py")) > 150


def test_without_a_thread_a_native_future_fails_and_loses_nothing():
    if HAS_ASAN:
        pytest.skip("AddressSanitizer needs more memory than it may have")
    assert run_isolated("limits_native_future_bridge.py") == "done\n"


def test_native_futures_leak_nothing():
    run_isolated("leaks_native_future_bridge.py")


def test_importing_the_bridge_leaves_the_gil_off():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python has a GIL")
    import native_future_bridge  # noqa: F401

    assert not sys._is_gil_enabled()
