"""model.py: the Python of chapter 3; thread_woken_future.c does the same in C.

Run it: python3 run.py python -i chapters/03_thread_woken_future/model.py
Taught in book/03_thread_woken_future.md.
"""

### What the model needs
import asyncio
import contextvars
import operator
import reprlib
import sys
import threading
import types


### A future and its callbacks
class WithCallbacks:
    """The first part of Future."""

    _asyncio_future_blocking = False
    _cancel_message = None
    _is_unseen = False
    __class_getitem__ = classmethod(types.GenericAlias)

    def __init__(self, *, loop=None):
        self._own_loop = asyncio.get_event_loop() if loop is None else loop
        self._status = "pending"
        self._outcome = self._traceback = None
        self._to_call = []
        self._work = None

    def get_loop(self):
        """Return the loop on which the callbacks are called."""
        return self._own_loop

    def add_done_callback(self, callback, /, *, context=None):
        """Let the loop call callback(self) in `context` when self is done."""
        if context is None:
            context = contextvars.copy_context()
        if self.done():
            self._own_loop.call_soon(callback, self, context=context)
        else:
            self._to_call.append((callback, context))

    def remove_done_callback(self, callback, /):
        """Forget every `callback` that was added; return how many there were."""
        left = [entry for entry in self._to_call if entry[0] != callback]
        count = len(self._to_call) - len(left)
        self._to_call[:] = left
        return count


### Becoming done
class WithEnd(WithCallbacks):
    """The second part of Future."""

    def _finish(self, status, outcome):
        """Take the outcome, stop the work, and let the loop call the callbacks."""
        self._status, self._outcome = status, outcome
        entries, self._to_call = self._to_call, []
        work, self._work = self._work, None
        if work is not None:
            work.abandon()
        for callback, context in entries:
            self._own_loop.call_soon(callback, self, context=context)

    def _check_pending(self):
        if self._status != "pending":
            raise asyncio.InvalidStateError("invalid state")

    def set_result(self, result, /):
        """Be done, with `result`. Raises InvalidStateError if self is done."""
        self._check_pending()
        self._finish("finished", result)

    def set_exception(self, exception, /):
        """Be done, with `exception`, an instance or a class.

        Raises InvalidStateError if self is done, and TypeError for anything else.
        """
        self._check_pending()
        if isinstance(exception, type):
            exception = exception()
        if not isinstance(exception, BaseException):
            raise TypeError("invalid exception object")
        if isinstance(exception, StopIteration):
            exception = wrap_stop(exception)
        self._traceback = exception.__traceback__
        self._is_unseen = True
        self._finish("failed", exception)

    def cancel(self, msg=None):
        """Be done, without a result. Return False if self was done before."""
        self._is_unseen = False
        if self.done():
            return False
        self._cancel_message = msg
        self._finish("cancelled", None)
        return True


### What came of it
class WithAnswers(WithEnd):
    """The third part of Future."""

    def done(self):
        """Return True if there is a result, an exception, or self was cancelled."""
        return self._status != "pending"

    def cancelled(self):
        """Return True if self was cancelled."""
        return self._status == "cancelled"

    def _make_cancelled_error(self):
        message = self._cancel_message
        return asyncio.CancelledError(*([] if message is None else [message]))

    def exception(self):
        """Return the exception, or None.

        Raises InvalidStateError if self is not done, CancelledError if cancelled.
        """
        if self.cancelled():
            raise self._make_cancelled_error()
        if not self.done():
            raise asyncio.InvalidStateError("Exception is not set.")
        self._is_unseen = False
        return self._outcome if self._status == "failed" else None

    def result(self):
        """Return the result, or raise the exception.

        Raises InvalidStateError if self is not done, CancelledError if cancelled.
        """
        if not self.done():
            raise asyncio.InvalidStateError("Result is not set.")
        exception = self.exception()
        if exception is not None:
            raise exception.with_traceback(self._traceback)
        return self._outcome


### A future in Python
class Future(WithAnswers):
    """A result that is not there yet, of which asyncio thinks it is its own."""

    def __await__(self):
        if not self.done():
            self._asyncio_future_blocking = True
            yield self
        if not self.done():
            raise RuntimeError("await wasn't used with future")
        return self.result()

    __iter__ = __await__

    @reprlib.recursive_repr()
    def __repr__(self):
        told = self._status
        if told == "finished":
            told += f" result={reprlib.repr(self._outcome)}"
        if told == "failed":
            told = f"finished exception={self._outcome!r}"
        return f"<{type(self).__name__} {told}>"

    def __del__(self):
        if self._is_unseen:
            self._own_loop.call_exception_handler(
                {
                    "message": f"{type(self).__name__} exception was never retrieved",
                    "exception": self._outcome,
                    "future": self,
                }
            )


### StopIteration cannot be an exception of a future
def wrap_stop(stop):
    """Return what takes the place of `stop`. Up to 3.12 that is a TypeError."""
    why = "StopIteration interacts badly with generators and cannot be raised into a "
    if sys.version_info < (3, 13):
        raise TypeError(why + "Future")
    error = RuntimeError(why + "Future")
    error.__cause__ = error.__context__ = stop
    return error


### A thread that works
class Work:
    """Waits, computes, and tells the loop of its future."""

    def __init__(self, future, x, delay):
        self.future, self.x, self.delay = future, x, delay
        self.loop = future.get_loop()
        self.abandoned = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def abandon(self):
        """End the work soon, and let go of the future."""
        self.abandoned.set()

    def run(self):
        """Do the work. Runs in a thread of its own."""
        if self.abandoned.wait(self.delay):
            return
        try:
            outcome = square_of(self.x), None
        except OverflowError as error:
            outcome = None, error
        try:
            self.loop.call_soon_threadsafe(complete, self.future, *outcome)
        except RuntimeError:
            if not self.loop.is_closed():
                raise


### What the thread computes
LONG_LONG = range(-(2**63), 2**63)


def square_of(x):
    """Return x * x. Raises OverflowError if that is no C long long."""
    if x * x not in LONG_LONG:
        raise OverflowError("the square does not fit into a C long long")
    return x * x


### Completing
def complete(future, result, error):
    """Complete `future`, on its loop, unless it is done."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


### Starting
LONGEST = 10**9  # seconds


def start(future, x, delay):
    """Let a thread complete `future` with x * x after `delay` seconds."""
    future._work = Work(future, x, delay)
    future._work.thread.start()
    return future


def check(x, delay):
    """Return both as the thread needs them, or raise what is wrong with them."""
    x = operator.index(x)
    if x not in LONG_LONG:
        raise OverflowError("x does not fit into a C long long")
    delay = float(delay)
    if not 0 <= delay <= LONGEST:
        raise ValueError("delay must be from 0 to 1e9 seconds")
    return x, delay


def square(x, delay=1.0):
    """Return a future that a thread completes with x * x after `delay` seconds."""
    x, delay = check(x, delay)
    return start(Future(loop=asyncio.get_running_loop()), x, delay)


### The shorter road
class SubclassedFuture(asyncio.Future):
    """A future of asyncio that can stop the work it waits for."""

    _work = None

    def cancel(self, msg=None):
        cancelled = super().cancel(msg)
        if cancelled and self._work is not None:
            self._work.abandon()
        return cancelled


def subclassed_square(x, delay=1.0):
    """Do what square() does, with a SubclassedFuture."""
    x, delay = check(x, delay)
    return start(SubclassedFuture(loop=asyncio.get_running_loop()), x, delay)
