"""Fork with native futures in flight: fork_native_future_bridge.py CASE."""

import asyncio
import os
import random
import signal
import sys
import threading
import time
import warnings

from native_future_bridge import compute, counters, join, select, sleep, timeout

warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, from 3.12 on
HOUR = 3600
loop = asyncio.new_event_loop()
FORKED = "this process was forked, and the thread that worked was not"


def begin(*coroutines):
    """Return a task for each on `loop`; all of them wait."""

    async def main():
        tasks = [*map(asyncio.ensure_future, coroutines)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks

    return loop.run_until_complete(main())


def end(tasks):
    """In the parent, cancel all; nothing has happened to them."""

    async def main():
        for task in tasks:
            assert task.cancel(), task
        await asyncio.wait(tasks)

    loop.run_until_complete(main())
    assert all(task.cancelled() for task in tasks)


def fork(check, exits=sys.exit):
    """Let a child do check() and exit as any program does; it must succeed."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            check()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        exits()
    signal.signal(signal.SIGALRM, lambda *args: os.kill(pid, signal.SIGKILL))
    signal.alarm(80)  # a child may hang before any Python runs in it
    assert os.waitpid(pid, 0) == (pid, 0)
    signal.alarm(0)


def results(tasks):
    async def gather():
        return await asyncio.gather(*tasks, return_exceptions=True)

    return loop.run_until_complete(gather())


def check_failed(tasks):
    for error in results(tasks):
        assert type(error) is RuntimeError, error
        assert str(error) == FORKED, error


async def everything():
    """Use each function once."""
    assert await join(sleep(0.001, 1), compute(10), asyncio.sleep(0, 2)) == [1, 55, 2]
    assert await select(sleep(HOUR), compute(5)) == 5
    try:
        await timeout(compute(92), 0.001)
    except TimeoutError:
        return
    raise AssertionError("no TimeoutError")


def flights():
    """Return a coroutine of each kind that a fork makes fail."""
    return [
        sleep(HOUR),
        compute(92),
        join(sleep(HOUR), compute(92)),
        select(sleep(HOUR), sleep(HOUR)),
        timeout(sleep(HOUR), HOUR),
        join(select(sleep(HOUR)), asyncio.sleep(HOUR)),
    ]


def pending():
    tasks = begin(*flights())

    def check():
        check_failed(tasks)
        assert counters()["sleepers"] == 0
        asyncio.run(everything())
        loop.close()

    fork(check)
    fork(check)
    assert not any(task.done() for task in tasks)
    end(tasks)
    loop.run_until_complete(everything())


def dropped():
    """Nobody in the child goes on with them; and the child is a parent."""
    tasks = begin(*flights())

    def check():
        asyncio.run(everything())
        fork(lambda: asyncio.run(everything()), lambda: os._exit(0))

    fork(check, lambda: os._exit(0))
    end(tasks)


def python_only():
    """What needs no thread goes on in the child."""
    future = loop.create_future()

    async def python(value):
        await future
        return value

    tasks = begin(
        join(python(1), python(2)),
        select(python(3), loop.create_future()),
        join(join(python(4)), select(python(5))),
    )

    def go_on():
        loop.call_soon(future.set_result, None)
        assert results(tasks) == [[1, 2], 3, [[4], 5]]

    fork(go_on, lambda: os._exit(0))
    go_on()


def refused():
    """On the old loop of the child, new ones fail; those on a new loop do not."""

    def check():
        check_failed(begin(sleep(0), compute(1), join(asyncio.sleep(0))))
        asyncio.run(everything())

    loop.run_until_complete(everything())
    fork(check, lambda: os._exit(0))
    loop.run_until_complete(everything())


def bell():
    """The child's loop does not take the bell that rings for the parent."""
    (task,) = begin(sleep(0.001, "value"))
    writes = counters()["writes"]
    while counters()["writes"] == writes:
        time.sleep(0.001)
    fork(lambda: loop.run_until_complete(asyncio.sleep(0.01)), lambda: os._exit(0))
    assert loop.run_until_complete(asyncio.wait_for(task, 60)) == "value"


def closed():
    """The loop is closed when the fork comes."""
    tasks = begin(sleep(HOUR), compute(92), timeout(join(sleep(HOUR)), HOUR))
    loop.close()
    fork(lambda: asyncio.run(everything()), lambda: os._exit(0))
    for task in tasks:
        task._log_destroy_pending = False
    asyncio.run(everything())


def within():
    """Fork in a task; in the child, no loop runs."""

    async def main():
        tasks = [*map(asyncio.ensure_future, flights())]
        soon = asyncio.ensure_future(join(sleep(0.05, 1), compute(20)))
        await asyncio.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            helper = threading.Thread(target=asyncio.run, args=[everything()])
            helper.start()
            helper.join()
            os._exit(0)
        assert await asyncio.to_thread(os.waitpid, pid, 0) == (pid, 0)
        for task in tasks:  # two of them compute, perhaps on all processors
            task.cancel()
        await asyncio.wait(tasks)
        assert await soon == [1, 6765]

    loop.run_until_complete(main())


def in_a_thread():
    """Fork in another thread than that of the loop."""
    tasks = begin(*flights())
    codes = []

    def run():
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            check_failed(tasks)
            asyncio.run(everything())
            os._exit(0)
        codes.append(os.waitpid(pid, 0)[1])

    helper = threading.Thread(target=run)
    helper.start()
    helper.join()
    assert codes == [0]
    end(tasks)


def finishing():
    """They are anywhere in their work."""

    async def many():
        return await join(
            *[sleep(0.003 * random.random()) for _ in range(50)],
            *[compute(i % 15) for i in range(50)],
        )

    def check():
        (error,) = results(tasks)
        assert type(error) in (list, RuntimeError), error
        asyncio.run(everything())

    for _ in range(20):
        tasks = begin(many())
        time.sleep(0.003 * random.random())
        fork(check, lambda: os._exit(0))
        (result,) = results(tasks)
        assert len(result) == 100


def within_a_poll():
    """Fork in a task that starts at once; the poll goes on in the child."""
    if sys.version_info < (3, 12):
        return
    pids, writes = [], []

    async def forks():
        pids.append(os.fork())
        if pids == [0]:
            writes.append(counters()["writes"])
            signal.alarm(60)
            loop.set_exception_handler(lambda *args: None)  # it is not running

    async def main():
        loop.set_task_factory(asyncio.eager_task_factory)
        await asyncio.sleep(0)
        loop.call_soon(watch)
        return await join(forks(), sleep(0.001), compute(5))

    def watch():
        if pids != [0]:
            return
        # From 3.14 on, asyncio stops the task there, and with it what it began.
        while counters()["writes"] == writes[0] and sys.version_info < (3, 14):
            time.sleep(0.001)
        os._exit(0)

    try:
        assert loop.run_until_complete(main()) == [None, None, 5]
        assert os.waitpid(pids[0], 0) == (pids[0], 0)
    finally:
        if pids == [0]:  # what its loop says there is not ours
            os._exit(0)


globals()[sys.argv[1]]()
loop.close()
print("done")
