"""bench.py: what chapter 4 costs beside the ways that Python has, and chapter 3.

Run it: python3 run.py bench native_future_bridge [pending | soak | blocked]
Taught in book/04_native_future_bridge.md.
"""

### What is compared
import asyncio
import concurrent.futures
import contextlib
import gc
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import native_future_bridge as native
import thread_woken_future

executor = concurrent.futures.ThreadPoolExecutor(1)


### Threads of Python
def answer():
    return 0


class Coalesced:
    """A thread that completes asyncio's futures, and wakes a loop once for many."""

    def __init__(self):
        self.jobs, self.done, self.is_read_soon = queue.SimpleQueue(), deque(), False
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            loop, future = self.jobs.get()
            self.done.append(future)
            if not self.is_read_soon:
                self.is_read_soon = True
                loop.call_soon_threadsafe(self.read)

    def read(self):
        self.is_read_soon = False
        while self.done:
            self.done.popleft().set_result(0)

    def start(self, loop):
        """Return a future that the thread completes."""
        future = loop.create_future()
        self.jobs.put((loop, future))
        return future


coalesced = Coalesced()


async def burst_coalesced(count):
    loop = asyncio.get_running_loop()
    for future in [coalesced.start(loop) for _ in range(count)]:
        await future
    return count


async def burst_in_executor(count):
    run = asyncio.get_running_loop().run_in_executor
    for future in [run(executor, answer) for _ in range(count)]:
        await future
    return count


async def to_thread():
    await asyncio.to_thread(answer)


async def one_coalesced():
    await coalesced.start(asyncio.get_running_loop())


### Threads of C
async def burst_of_squares(count, at_once=500):
    """Let a thread of chapter 3 complete each future, `at_once` at a time."""
    for i in range(0, count, at_once):
        squares = [thread_woken_future.square(0, 0) for _ in range(i, i + at_once)]
        for future in squares:
            await future
    return count


async def burst(count):
    return len(await native.join(*[native.compute(0) for _ in range(count)]))


async def one():
    await native.compute(0)


async def one_square():
    await thread_woken_future.square(0, 0)


### Many that wait
async def closed(one, width, each):
    """Keep `width` tasks busy, which each await one() `each` times."""

    async def repeat():
        for _ in range(each):
            await one()

    await asyncio.gather(*[repeat() for _ in range(width)])
    return width * each


async def asyncio_sleeps(count):
    return len(await asyncio.gather(*[asyncio.sleep(0.001) for _ in range(count)]))


async def native_sleeps(count):
    return len(await native.join(*[native.sleep(0.001) for _ in range(count)]))


### The variants
VARIANTS = {
    "coalesced Python": {
        "burst": burst_coalesced,
        "one": one_coalesced,
        "sleeps": asyncio_sleeps,
    },
    "executor": {"burst": burst_in_executor, "one": to_thread},
    "chapter 3": {"burst": burst_of_squares, "one": one_square},
    "C": {"burst": burst, "one": one, "sleeps": native_sleeps},
}

### The rows
CLOCK = time.perf_counter  # what threads take counts, too
REPEATED = 1
SHARED = {"closed": closed}

ROWS = {
    "one": "await one()",
    "64 in flight": "await closed(one, 64, 20)",
    "10,000 at once": "await burst(10_000)",
    "100,000 sleeps": "await sleeps(100_000)",
}


### How much memory
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident():
    """Return how many bytes of memory this process has, or 0 if nobody knows."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * PAGE
    except OSError:
        return 0


def descriptors():
    """Return how many descriptors this process has, or 0 if nobody knows."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


### A million that wait
async def wait_for_all(kind, count, delay):
    """Let `count` sleeps wait at once; return seconds and bytes for each of them."""
    await native.sleep(0)
    gc.collect()
    before, start = resident(), time.perf_counter()
    if kind == "asyncio":
        all_of_them = asyncio.gather(*[asyncio.sleep(delay) for _ in range(count)])
    else:
        sleeps = [native.sleep(delay) for _ in range(count)]
        all_of_them = asyncio.create_task(native.join(*sleeps))
        del sleeps
    await asyncio.sleep(0)
    taken = resident() - before
    await all_of_them
    return (time.perf_counter() - start - delay) / count, taken / count


def wait_alone(kind, count, delay):
    """Do wait_for_all() in a process of its own."""
    code = f"import bench; bench.print_wait({kind!r}, {count}, {delay})"
    command = [sys.executable, "-c", code]
    folder = Path(__file__).parent
    printed = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    return [float(word) for word in printed.stdout.split()]


def print_wait(kind, count, delay):
    print(*asyncio.run(wait_for_all(kind, count, delay)))


def pending(most="1000000"):
    """Print what sleeps cost, from 1,000 of them to `most`; asyncio's up to 100,000."""
    print(f"{'waiting':>10}{'C, us':>9}{'bytes':>7}{'asyncio, us':>14}{'bytes':>7}")
    count = 1000
    while count <= int(most):
        delay = 0.1 + count * 3e-6
        line = f"{count:10}"
        for kind in ["C", "asyncio"] if count <= 100_000 else ["C"]:
            runs = [
                wait_alone(kind, count, delay * (1 + 9 * (kind != "C"))) for _ in "123"
            ]
            seconds, taken = map(statistics.median, zip(*runs, strict=True))
            line += f"{seconds * 1e6:{9 if kind == 'C' else 14}.2f}{taken:7.0f}"
        print(line, flush=True)
        count *= 10


### A worker while Python computes
def spin(condition):
    """Compute until condition() is true; return how many seconds that took."""
    start = time.perf_counter()
    while not condition():
        pass
    return time.perf_counter() - start


async def wait_for_workers(rounds):
    """Return how long a thread of C lives while Python computes: ours, chapter 3's."""
    ours, others = [], []
    await native.compute(0)
    for _ in range(rounds):
        task = asyncio.ensure_future(native.compute(0))
        done = native.counters()["done"]
        await asyncio.sleep(0)
        ours.append(spin(lambda done=done: native.counters()["done"] > done))
        await task
        future = thread_woken_future.square(0, 0)
        others.append(spin(lambda: thread_woken_future.count_threads() == 0))
        await future
    return ours, others


def blocked(rounds="300"):
    """Print how long a worker takes that completes a future while Python computes."""
    found = zip(
        ["C", "chapter 3"], asyncio.run(wait_for_workers(int(rounds))), strict=True
    )
    for name, seconds in found:
        cuts = statistics.quantiles(seconds, n=100)
        print(
            f"{name:10}: median {cuts[49] * 1e6:7.1f} us, p99 {cuts[98] * 1e6:7.1f} us"
        )


### For minutes
async def some(number):
    """Do a bit of everything."""
    first = native.select(native.sleep(1), native.sleep(number % 5 / 1e3))
    every = native.join(native.compute(number % 20), asyncio.sleep(0.002), first)
    with contextlib.suppress(TimeoutError):
        await native.timeout(every, number % 7 / 1e3)


async def go_on(end):
    """Do everything many times, and cancel some of it. Return how often."""
    count = 0
    while time.perf_counter() < end:
        tasks = [asyncio.create_task(some(number)) for number in range(300)]
        await asyncio.sleep(0.001)
        for task in tasks[::10]:
            task.cancel()
        await asyncio.wait(tasks)
        count += len(tasks)
    return count


def soak(seconds="600"):
    """Print every ten seconds, each in a loop of its own, how much is in use."""
    end = time.perf_counter() + float(seconds)
    while (now := time.perf_counter()) < end:
        count = asyncio.run(go_on(min(now + 10, end)))
        gc.collect()
        counted = {name: native.counters()[name] for name in ("sleepers", "jobs")}
        memory = f"{resident() / 1e6:.1f} MB, {descriptors()} descriptors"
        print(f"{count} done; {memory}; {counted}", flush=True)


COMMANDS = {"pending": pending, "blocked": blocked, "soak": soak}
