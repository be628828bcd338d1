"""Fork with futures pending: KIND CASE. KIND is the function that makes them."""

import asyncio
import contextvars
import os
import random
import signal
import sys
import sysconfig
import threading
import time
import warnings

# Older than the hooks of the module: before_fork() runs after, first_in_child() before.
os.register_at_fork(
    before=lambda: before_fork(), after_in_child=lambda: first_in_child()
)

import thread_woken_future  # noqa: E402
from thread_woken_future import count_threads  # noqa: E402

warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, from 3.12 on
start = getattr(thread_woken_future, sys.argv[1])
HOUR = 3600
exits_at_once = False
loop = asyncio.new_event_loop()


def before_fork():
    """Let other threads run, in some cases, in the midst of a fork."""


def first_in_child():
    """Use futures, in some cases, before the module knows of the fork."""


def begin(delays):
    """Return a future for each of `delays`, on `loop`."""

    async def main():
        return [start(i, delay) for i, delay in enumerate(delays)]

    return loop.run_until_complete(main())


async def squares(count):
    return await asyncio.gather(*[start(i, 0) for i in range(count)])


def fork(check):
    """Let a child do check() and exit as any program does; it must succeed."""
    pid = os.fork()
    if pid == 0:
        check()
        if exits_at_once:
            os._exit(0)
        sys.exit()
    signal.signal(signal.SIGALRM, lambda *args: os.kill(pid, signal.SIGKILL))
    signal.alarm(60)  # a child may hang before any Python runs in it
    assert os.waitpid(pid, 0) == (pid, 0)
    signal.alarm(0)


def check_failed(futures):
    for future in futures:
        assert type(future.exception()) is RuntimeError, future
        assert "fork" in str(future.exception())


def until_no_threads():
    while count_threads():
        time.sleep(0.001)


def end(futures):
    """In the parent, end all; those that were not cancelled have their result."""
    for future in futures:
        assert future.cancel()
    until_no_threads()


def pending():
    futures = begin([HOUR] * 3)

    def check():
        assert count_threads() == 0
        check_failed(futures)
        assert asyncio.run(squares(5)) == [0, 1, 4, 9, 16]
        until_no_threads()

    fork(check)
    assert not any(future.done() for future in futures)
    assert count_threads() == 3
    end(futures)


def awaited():
    """In the child, the await of a failed one raises; and its child is a parent."""
    (future,) = begin([HOUR])

    async def waits():
        await future

    def check():
        try:
            asyncio.run(waits())
        except RuntimeError as error:
            assert error is future.exception()
        else:
            raise AssertionError
        more = begin([HOUR])
        fork(lambda: check_failed(more))
        end(more)

    fork(check)
    end([future])


def dropped():
    """Nobody in the child has the future any more, or looks at it."""
    futures = begin([HOUR] * 3)
    futures[0].add_done_callback(print)
    fork(futures.clear)
    end(futures)


def done():
    """The future is done otherwise; the thread of a SubclassedFuture goes on."""
    futures = begin([HOUR] * 3)
    futures[0].set_result("result")
    futures[1].set_exception(KeyError("error"))
    futures[2].cancel()

    def check():
        assert futures[0].result() == "result"
        assert type(futures[1].exception()) is KeyError
        assert futures[2].cancelled()
        assert count_threads() == 0

    fork(check)
    assert type(futures[1].exception()) is KeyError


def closed():
    """The loop of the future is closed."""
    futures = begin([HOUR] * 3)
    futures[0].add_done_callback(print)
    loop.close()
    fork(lambda: check_failed(futures))
    assert not any(future.done() for future in futures)
    futures[0].remove_done_callback(print)
    end(futures)


def within():
    """Fork in a task."""

    async def main():
        future = start(3, HOUR)
        soon = start(3, 0.05)
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            check_failed([future])
            assert asyncio.run(squares(2)) == [0, 1]
            os._exit(0)
        assert await asyncio.to_thread(os.waitpid, pid, 0) == (pid, 0)
        future.cancel()
        assert await soon == 9

    loop.run_until_complete(main())
    until_no_threads()


def in_a_thread():
    """Fork in another thread than that of the loop."""
    futures = begin([HOUR] * 3)

    def run():
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            check_failed(futures)
            assert asyncio.run(squares(2)) == [0, 1]
            os._exit(0)
        codes.append(os.waitpid(pid, 0)[1])

    codes = []
    helper = threading.Thread(target=run)
    helper.start()
    helper.join()
    assert codes == [0]
    end(futures)


def other_hooks():
    """A hook lets a thread run that had waited for the GIL."""
    global before_fork
    sys.setswitchinterval(60)
    futures = begin([0.01] * 10)
    until = time.monotonic() + 0.1
    while time.monotonic() < until:
        pass  # with the GIL, which the threads wait for
    before_fork = wait_a_little
    fork(lambda: check_nothing_lost(futures))
    before_fork = int
    results = loop.run_until_complete(asyncio.gather(*futures))
    assert results == [i * i for i in range(10)]
    until_no_threads()


def wait_a_little():
    time.sleep(0.1)


def before_our_hook():
    """In the child, others use futures first, and Python clears a dead thread."""
    global first_in_child
    futures = begin([HOUR, HOUR, 0])
    assert loop.run_until_complete(futures[2]) == 4
    only = begin([0])
    assert loop.run_until_complete(only[0]) == 0
    begun, ended = threading.Event(), threading.Event()
    variable = contextvars.ContextVar("variable")

    def hold():
        variable.set(only.pop())
        begun.set()
        ended.wait()

    def use():
        assert futures[0].cancel()
        futures.pop()
        assert count_threads() == 0

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    begun.wait()
    first_in_child = use
    fork(lambda: check_failed(futures[1:]))
    ended.set()
    holder.join()
    end(futures[:2])


def hundred():
    for _ in range(30):
        futures = begin([HOUR] * 100)
        fork(lambda futures=futures: check_failed(futures))
        assert count_threads() == 100
        end(futures)


def check_nothing_lost(futures):
    """Each has failed, or is about to be completed by the loop."""
    ready = [handle._args[0] for handle in loop._ready if handle._args]
    for future in futures:
        if future.done():
            assert type(future.exception()) in (RuntimeError, type(None))
        else:
            assert any(one is future for one in ready), "a future is lost"


def finishing():
    """The threads are anywhere in their work, in Python's own functions, too."""
    global exits_at_once
    # A thread that was attached, and is not in the child, stops the child at its end,
    # with or without us: 3.15 waits for what it guards, free-threaded Python for locks.
    no_gil = sysconfig.get_config_var("Py_GIL_DISABLED")
    exits_at_once = sys.version_info >= (3, 15) or bool(no_gil)
    sys.setswitchinterval(1e-5)
    for _ in range(30):
        futures = begin([0.02 * random.random() for _ in range(100)])
        time.sleep(0.02 * random.random())
        fork(lambda futures=futures: check_nothing_lost(futures))
        results = loop.run_until_complete(asyncio.gather(*futures))
        assert results == [i * i for i in range(100)]
        until_no_threads()


case = globals()[sys.argv[2]]
case()
loop.close()
assert case is done or count_threads() == 0
print("done")
