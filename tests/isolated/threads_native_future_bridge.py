"""Run loops in several threads, which share what C has: CASE.

Worth most on a free-threaded build with ThreadSanitizer.
"""

import asyncio
import random
import sys
import threading

from native_future_bridge import compute, counters, join, select, sleep, timeout

THREADS = 4
ROUNDS = 30


async def later(value):
    await asyncio.sleep(0)
    return value


async def mixed():
    for i in range(ROUNDS):
        delays = [random.random() / 1000 for _ in range(10)]
        assert await join(
            *[sleep(delay, i) for delay in delays],
            join(compute(10), later(i)),
            select(sleep(3600), later(i), compute(92)),
        ) == [*[i] * 10, [55, i], i]
        try:
            await timeout(join(compute(92), sleep(3600), asyncio.sleep(3600)), 0.0001)
        except TimeoutError:
            continue
        raise AssertionError("no TimeoutError")


def together(function):
    """Call function() in several threads at once; each must return."""
    ends = []
    barrier = threading.Barrier(THREADS)

    def run():
        barrier.wait()
        function()
        ends.append(1)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == THREADS


def loops():
    """A loop in each thread."""
    together(lambda: asyncio.run(mixed()))


def short_loops():
    """Many loops in each thread, which end with something in flight."""

    async def short():
        task = asyncio.ensure_future(join(sleep(random.random() / 1000), compute(12)))
        await sleep(0.0001)
        return task

    def run():
        for _ in range(ROUNDS):
            asyncio.run(short())

    together(run)


def adopted():
    """Threads want the same coroutines; each goes to one of them."""
    coroutines = [sleep(0, i) for i in range(500)]

    def adopt():
        mine = []
        for coroutine in coroutines:
            try:
                mine.append(join(coroutine))
            except RuntimeError:
                pass

        async def main():
            return [await one for one in mine]

        results.extend(asyncio.run(main()))

    results = []
    together(adopt)
    assert sorted(results) == [[i] for i in range(500)]


def ended_elsewhere():
    """Others close or drop what a loop has begun, once that is closed."""
    left = []
    lock = threading.Lock()

    async def begin():
        for _ in range(20):
            one = join(sleep(random.random() / 500), compute(15))
            one.send(None)
            left.append(one)

    def run():
        asyncio.run(begin())
        for _ in range(20):
            with lock:
                one = left.pop(random.randrange(len(left)))
            if random.random() < 0.5:
                try:
                    one.close()
                except ValueError:
                    pass

    for _ in range(ROUNDS):
        together(run)


sys.setswitchinterval(1e-5)
{case.__name__: case for case in (loops, short_loops, adopted, ended_elsewhere)}[
    sys.argv[1]
]()
assert counters()["mailboxes"] == 0
print("done")
