"""model.py: the Python of chapter 4; native_future_bridge.c does the same in C.

Run it: python3 run.py python -i chapters/04_native_future_bridge/model.py
Taught in book/04_native_future_bridge.md.
"""

### What the model needs
import asyncio
import functools
import heapq
import itertools
import operator
import os
import queue
import threading
import time
import types
import weakref
from collections import deque

PENDING, READY, FAILED, CANCELLED = "pending", "ready", "failed", "cancelled"


### A thread that ends with the process
def start_thread(target):
    """Let a thread run target(), and do not wait for it at the end."""
    threading.Thread(target=target, daemon=True).start()


### A native future
class NativeFuture:
    """Something that comes to an end, and is polled to get there.

    Who has it calls poll(wake) until that is not PENDING any more, or drop()
    instead. poll() keeps wake, and calls it, in any thread, when it is worth
    polling again. cancel() makes it end early; it is polled until it does.
    """

    error = None

    def take(self):
        """Return the result of what is READY, or raise why it has FAILED."""
        if self.error is not None:
            raise self.error
        return self.value


### Sleepers
class Sleep(NativeFuture):
    """It is READY `delay` seconds after it was polled first."""

    def __init__(self, delay, value):
        self.delay, self.value, self.state = delay, value, None

    def poll(self, wake):
        with timer.changed:
            self.wake = wake
            if self.state is None and self.delay == 0:
                self.state = READY
                wake()
                return PENDING
            if self.state is None:
                self.state = PENDING
                timer.add(self)
            return self.state

    def cancel(self):
        with timer.changed:
            timer.remove(self)
            self.state = CANCELLED

    drop = cancel


### The timer
class Timer:
    """One thread that wakes any number of sleepers."""

    def __init__(self):
        self.changed = threading.Condition()
        self.entries = []  # a heap of (deadline, number, sleep)
        self.numbers = itertools.count()
        self.has_thread = False

    def add(self, sleep):
        entry = time.monotonic() + sleep.delay, next(self.numbers), sleep
        heapq.heappush(self.entries, entry)
        if not self.has_thread:
            start_thread(self.run)
            self.has_thread = True
        if self.entries[0] is entry:
            self.changed.notify()

    def remove(self, sleep):
        self.entries = [entry for entry in self.entries if entry[2] is not sleep]
        heapq.heapify(self.entries)

    def run(self):
        with self.changed:
            while True:
                now = time.monotonic()
                while self.entries and self.entries[0][0] <= now:
                    sleep = heapq.heappop(self.entries)[2]
                    sleep.state = READY
                    sleep.wake()
                    del sleep
                left = self.entries[0][0] - now if self.entries else None
                self.changed.wait(left)


timer = Timer()


### What is computed
def fibonacci(n, job):
    """Return the nth Fibonacci number, slowly; stop if the job is not PENDING."""
    if n < 2 or job.state is not PENDING:
        return n
    return fibonacci(n - 1, job) + fibonacci(n - 2, job)


### A computation
class Compute(NativeFuture):
    """A thread of the pool computes it, or finds out that it cannot."""

    def __init__(self, n):
        self.n, self.state, self.value = n, None, None

    def poll(self, wake):
        with pool.lock:
            self.wake = wake
            if self.state is None:
                self.state = PENDING
                pool.add(self)
            return self.state

    def cancel(self):
        with pool.lock:
            self.state = CANCELLED

    drop = cancel

    def run(self):
        """In a thread of the pool: compute."""
        value = error = None
        if self.n > 92:
            error = OverflowError("the number does not fit into a C long long")
        else:
            value = fibonacci(self.n, self)
        with pool.lock:
            if self.state is PENDING:
                self.value, self.error = value, error
                self.state = READY if error is None else FAILED
                self.wake()


### The pool
class Pool:
    """A few threads that compute one after the other what they are given."""

    def __init__(self, count):
        self.lock = threading.Lock()
        self.jobs = queue.SimpleQueue()
        self.missing = count  # threads that are still to be started

    def add(self, job):
        if self.missing:
            self.missing -= 1
            start_thread(self.run)
        self.jobs.put(job)

    def run(self):
        while True:
            self.jobs.get().run()


pool = Pool(os.cpu_count() or 1)


### Many native futures as one
class Group(NativeFuture):
    """All of its children, or the first that ends."""

    def __init__(self, children, is_select):
        self.children, self.is_select = children, is_select
        self.left = set(range(len(children)))
        self.woken, self.polls_all = deque(), True
        self.decider = None  # the child whose end is that of all
        self.decision = READY
        self.is_cancelled = False

    def poll(self, wake):
        self.wake = wake
        for _ in range(len(self.woken)):
            self.poll_child(self.woken.popleft())
        while self.polls_all:
            self.polls_all = False
            for i in sorted(self.left):
                self.poll_child(i)
        return PENDING if self.left else self.decision

    def poll_child(self, i):
        if i in self.left:
            state = self.children[i].poll(functools.partial(self.wake_child, i))
            if state is not PENDING:
                self.left.remove(i)
                self.end_child(self.children[i], state)

    def wake_child(self, i):
        self.woken.append(i)
        self.wake()

    def end_child(self, child, state):
        """Let the end of `child`, in `state`, decide over all, if it does."""
        if self.is_cancelled and state is not FAILED:
            return
        if self.decider is None and (self.is_select or state is not READY):
            self.decider, self.decision = child, state
            if not self.is_cancelled:
                self.cancel_children()

    def cancel_children(self):
        self.polls_all = True
        for i in self.left:
            self.children[i].cancel()

    def cancel(self):
        self.is_cancelled = True
        if self.decision is not FAILED:
            self.decider, self.decision = None, CANCELLED
        self.cancel_children()

    def drop(self):
        for i in self.left:
            self.children[i].drop()

    def take(self):
        if self.decider is not None:
            return self.decider.take()
        return [child.take() for child in self.children]


### A native future and a limit
class Timeout(NativeFuture):
    """Its child, unless that takes too long."""

    def __init__(self, child, delay):
        self.child, self.sleep = child, Sleep(delay, None)
        self.is_over = self.is_cancelled = False

    def poll(self, wake):
        state = self.child.poll(wake)
        if state is PENDING and not self.is_over:
            if self.sleep.poll(wake) is PENDING:
                return PENDING
            self.is_over = True
            self.child.cancel()
            state = self.child.poll(wake)
        if state is PENDING:
            return PENDING
        if not self.is_over:
            self.sleep.drop()
        if state is CANCELLED and self.is_over and not self.is_cancelled:
            self.error = TimeoutError()
            return FAILED
        return state

    def cancel(self):
        if not self.is_over:
            self.sleep.drop()
        self.is_over = self.is_cancelled = True
        self.child.cancel()

    def drop(self):
        if not self.is_over:
            self.sleep.drop()
        self.child.drop()

    def take(self):
        if self.error is not None:
            raise self.error
        return self.child.take()


### A coroutine that was never started
def is_used(coroutine):
    """Return whether somebody runs or awaits `coroutine`."""
    names = "cr_running", "cr_await"
    return any(getattr(coroutine, name, None) for name in names)


def close_fresh(awaitable):
    """Close `awaitable` if it is a coroutine that nobody has started."""
    if not asyncio.iscoroutine(awaitable):
        return
    if not is_used(awaitable):
        awaitable.close()


### A Python awaitable is a native future
class Child(NativeFuture):
    """It runs as a task, or is the future that it was given."""

    def __init__(self, awaitable):
        self.awaitable, self.future = awaitable, None
        self.is_cancelled = self.has_failed = self.is_taken = False

    def poll(self, wake):
        self.wake = wake
        if self.is_cancelled and (self.future is None or self.future.done()):
            return CANCELLED
        if self.future is None:
            try:
                loop = asyncio.get_running_loop()
                self.future = asyncio.ensure_future(self.awaitable, loop=loop)
            except Exception as error:
                self.error = error
                return FAILED
            self.future.add_done_callback(lambda _: self.wake())
        if not self.future.done():
            return PENDING
        if self.future.cancelled():
            return CANCELLED
        self.has_failed = self.future.exception() is not None
        return FAILED if self.has_failed else READY

    def cancel(self):
        if self.future is None:
            self.close()
            self.is_cancelled = True
        else:
            self.is_cancelled = not self.future.cancel() or self.is_cancelled

    drop = cancel

    def close(self):
        """Close a coroutine that was never started."""
        if self.future is None:
            close_fresh(self.awaitable)

    def take(self):
        self.is_taken = True
        if self.error is not None:
            raise self.error
        return self.future.result()

    def __del__(self):
        self.close()
        if self.has_failed and not self.is_taken:
            message = "exception of an awaitable was never retrieved"
            context = {"message": message, "exception": self.future.exception()}
            self.future.get_loop().call_exception_handler(context)


### A mailbox
class Mailbox:
    """Where threads leave what shall go on in one loop."""

    def __init__(self, loop):
        self.loop = weakref.ref(loop)
        self.lock = threading.Lock()
        self.woken, self.is_read_soon = [], False

    def push(self, waker):
        with self.lock:
            self.woken.append(waker)
            if self.is_read_soon:
                return
            self.is_read_soon = True
        loop = self.loop()
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self.read)
        except RuntimeError:
            if not loop.is_closed():
                raise

    def read(self):
        with self.lock:
            woken, self.woken, self.is_read_soon = self.woken, [], False
        for waker in woken:
            waker.deliver()


mailboxes = weakref.WeakKeyDictionary()


### A waker
class Waker:
    """What makes one coroutine go on, from any thread and any number of times."""

    def __init__(self, loop):
        self.mailbox = mailboxes.setdefault(loop, Mailbox(loop))
        self.future, self.is_queued = lambda: None, False

    def __call__(self):
        with self.mailbox.lock:
            was_queued, self.is_queued = self.is_queued, True
        if not was_queued:
            self.mailbox.push(self)

    def deliver(self):
        self.is_queued = False
        future = self.future()
        if future is not None and not future.done():
            future.set_result(None)


### A native future is a Python awaitable
async def drive(native):
    """Poll `native` to its end, and return or raise what comes out."""
    loop = asyncio.get_running_loop()
    wake, state, error = Waker(loop), PENDING, None
    try:
        while (state := native.poll(wake)) is PENDING:
            future = loop.create_future()
            wake.future = weakref.ref(future)
            try:
                await future
            except GeneratorExit:
                raise
            except BaseException as raised:
                error = raised
                native.cancel()
            if asyncio.get_running_loop() is not loop:
                raise RuntimeError("the coroutine was started on another event loop")
    finally:
        if state is PENDING:
            native.drop()
    if state is CANCELLED and error is not None:
        raise error
    return native.take()


### What Python calls
def make(name, native):
    """Return a coroutine that drives `native`."""
    coroutine = drive(native)
    coroutine.__name__ = coroutine.__qualname__ = name
    return coroutine


def adopt(awaitable):
    """Return the native future of `awaitable`, or one that stands for it."""
    if asyncio.iscoroutine(awaitable) and is_used(awaitable):
        raise RuntimeError("coroutine is being awaited already")
    if isinstance(awaitable, types.CoroutineType):
        if awaitable.cr_frame is None:
            raise RuntimeError("cannot reuse already awaited coroutine")
        if awaitable.cr_code is drive.__code__:
            native = awaitable.cr_frame.f_locals["native"]
            awaitable.close()
            return native
    if not hasattr(type(awaitable), "__await__"):
        raise TypeError(f"'{type(awaitable).__name__}' object can't be awaited")
    return Child(awaitable)


### All arguments
def adopt_all(name, awaitables):
    """Return a native future for each awaitable; in case of an error close them."""
    if not awaitables:
        raise TypeError(f"{name} expected at least 1 argument, got 0")
    children = []
    try:
        for awaitable in awaitables:
            children.append(adopt(awaitable))
    except (TypeError, RuntimeError):
        for awaitable in awaitables[len(children) :]:
            close_fresh(awaitable)
        raise
    return children


### The functions
def check_delay(delay):
    if not 0 <= delay <= 1e9:
        raise ValueError("delay must be from 0 to 1e9 seconds")
    return float(delay)


def sleep(delay, value=None):
    """Return a coroutine that returns value after delay seconds."""
    return make("sleep", Sleep(check_delay(delay), value))


def compute(n, /):
    """Return a coroutine that returns the nth Fibonacci number."""
    n = operator.index(n)
    if n < 0:
        raise ValueError("n must not be negative")
    return make("compute", Compute(n))


def join(*awaitables):
    """Return a coroutine that returns a list of all results."""
    return make("join", Group(adopt_all("join", awaitables), is_select=False))


def select(*awaitables):
    """Return a coroutine that returns the first result, and cancels the rest."""
    return make("select", Group(adopt_all("select", awaitables), is_select=True))


def timeout(awaitable, delay):
    """Return a coroutine that gives up after delay seconds."""
    (child,) = adopt_all("timeout", [awaitable])
    return make("timeout", Timeout(child, check_delay(delay)))
