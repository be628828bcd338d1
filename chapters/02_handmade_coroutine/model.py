"""model.py: the Python of chapter 2; handmade_coroutine.c does the same in C.

Run it: python3 run.py python -i chapters/02_handmade_coroutine/model.py
Taught in book/02_handmade_coroutine.md.
"""

### What the model needs
import collections.abc
import inspect
import types
import warnings


### Relay
class Relay:
    """An awaitable that hands back the iterator of another one."""

    def __init__(self, awaitable, /):
        self.awaitable = awaitable

    def __await__(self):
        return self.awaitable.__await__()


### Echo
class Echo:
    """An awaitable that gives its value back."""

    def __init__(self, value, /):
        self.value = value

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration(self.value)


### Ready
class Ready(Echo):
    """An Echo that costs less, when it is made in C."""


### What came out
def attempt(function, *args):
    """Call a function that drives an iterator, and return what came out.

    That is ("yield", item), ("return", value) or ("raise", error).
    """
    try:
        return "yield", function(*args)
    except StopIteration as stop:
        return "return", stop.value
    except BaseException as error:
        return "raise", error


### Beginning to await
def get_iter(awaitable):
    """Return the iterator that `await awaitable` would drive."""
    if not inspect.isawaitable(awaitable):
        raise TypeError(f"'{type(awaitable).__name__}' object can't be awaited")
    if isinstance(awaitable, types.GeneratorType):
        return awaitable
    return awaitable.__await__()


def begin_await(coroutine, awaitable):
    """Do the first step of `await awaitable`, and return what came out."""
    try:
        coroutine.awaited = get_iter(awaitable)
    except BaseException as error:
        return "raise", error
    return attempt(next, coroutine.awaited)


### From await to await
def go_on(coroutine, status, result):
    """Go on with what came out of what is awaited, to the next yield or the end.

    Return what is yielded. Raise StopIteration(result) at the end, or what the
    body raises.
    """
    while status != "yield":
        coroutine.awaited = None
        done, result = take_step(coroutine, status, result)
        if done:
            raise StopIteration(result)
        status, result = begin_await(coroutine, result)
    coroutine.state = "SUSPENDED"
    return result


def take_step(coroutine, status, result):
    """Let the body take a step, and close the coroutine if that was the last."""
    done = True
    try:
        if status == "raise":
            done, result = coroutine.step(None, result)
        else:
            done, result = coroutine.step(result, None)
        return done, result
    except StopIteration as stop:
        raise RuntimeError("coroutine raised StopIteration") from stop
    finally:
        if done:
            coroutine.state = "CLOSED"


### Delegating
def send_to(iterator, value):
    """Send value as `yield from iterator` does."""
    return next(iterator) if value is None else iterator.send(value)


def close_it(iterator):
    """Close iterator if it can be closed."""
    if hasattr(iterator, "close"):
        iterator.close()


def throw_into(iterator, error):
    """Throw error as `yield from iterator` does."""
    if isinstance(error, GeneratorExit):
        close_it(iterator)
    elif hasattr(iterator, "throw"):
        return iterator.throw(error)
    raise error


### The right to run
def enter(coroutine):
    """Return the state of coroutine, which is "RUNNING" from now on."""
    if coroutine.state == "RUNNING":
        raise ValueError("coroutine already executing")
    if coroutine.state == "CLOSED":
        raise RuntimeError("cannot reuse already awaited coroutine")
    state, coroutine.state = coroutine.state, "RUNNING"
    return state


### The object
class CoroutineObject:
    """What a coroutine is before it runs, and when it is dropped."""

    state = "CLOSED"

    def __init__(self, name):
        self.__name__ = self.__qualname__ = name
        self.state = "CREATED"
        self.position = 0
        self.awaited = None

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def __del__(self):
        if self.state == "CREATED":
            message = f"coroutine '{self.__qualname__}' was never awaited"
            warnings.warn(message, RuntimeWarning, source=self, stacklevel=2)
        else:
            self.close()


### send, throw and close
class Coroutine(CoroutineObject, collections.abc.Coroutine):
    """A coroutine whose body is the method step() of a subclass.

    step(value, error) is given the result of what the body awaited last, or the
    exception that this await raises. It returns (False, awaitable) to await, or
    (True, result) to return.
    """

    def send(self, value):
        if self.state == "CREATED" and value is not None:
            raise TypeError("can't send non-None value to a just-started coroutine")
        if enter(self) == "CREATED":
            return go_on(self, "return", None)
        return go_on(self, *attempt(send_to, self.awaited, value))

    def throw(self, error, /):
        if isinstance(error, type):
            error = error()
        if enter(self) == "SUSPENDED":
            return go_on(self, *attempt(throw_into, self.awaited, error))
        self.state = "CLOSED"
        if isinstance(error, StopIteration):
            raise RuntimeError("coroutine raised StopIteration") from error
        raise error

    def close(self):
        if self.state == "CREATED":
            self.state = "CLOSED"
        if self.state == "CLOSED":
            return None
        try:
            self.throw(GeneratorExit)
        except GeneratorExit:
            return None
        except StopIteration as stop:
            return stop.value
        raise RuntimeError("coroutine ignored GeneratorExit")


### add
class add(Coroutine):
    """async def add(a, b): return await a + await b"""

    def __init__(self, a, b, /):
        super().__init__("add")
        self.a = a
        self.b = b

    def step(self, value, error):
        if error is not None:
            raise error
        if self.position == 0:
            self.position = 1
            return False, self.a
        if self.position == 1:
            self.left = value
            self.position = 2
            return False, self.b
        return True, self.left + value


### countdown
class countdown(Coroutine):
    """async def countdown(n, tick): await tick() n times, and finally once more."""

    def __init__(self, n, tick, /):
        super().__init__("countdown")
        self.n = n
        self.tick = tick

    def step(self, value, error):
        if self.position == 2:
            return self.end(error)
        try:
            if error is not None:
                raise error
            if self.position == 0:
                self.numbers = iter(range(self.n))
                self.position = 1
            for _ in self.numbers:
                return False, self.tick()
            self.error = None
        except BaseException as raised:
            self.error = raised
        self.position = 2
        return False, self.tick()

    def end(self, error):
        if error is not None:
            raise error
        if self.error is not None:
            raise self.error
        return True, self.n
