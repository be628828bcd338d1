"""model.py: the Python of chapter 1; manual_await.c does the same in C.

Run it: python3 run.py python -i chapters/01_manual_await/model.py
Taught in book/01_manual_await.md.
"""

### What the model needs
import inspect
import types


### The loop over next
def run_by_next(awaitable):
    """Drive awaitable with nothing but next(), and return its result."""
    iterator = awaitable.__await__()
    while True:
        try:
            next(iterator)
        except StopIteration as stop:
            return stop.value


### A generator that counts as a coroutine
def is_generator_coroutine(value):
    """Tell whether value is a generator marked by types.coroutine()."""
    return (
        type(value) is types.GeneratorType
        and value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE != 0
    )


### From awaitable to iterator
def get_iter(awaitable):
    """Return the iterator that `await awaitable` would drive."""
    if is_generator_coroutine(awaitable):
        return awaitable
    if inspect.iscoroutine(awaitable) and awaitable.cr_await is not None:
        raise RuntimeError("coroutine is being awaited already")
    cls = type(awaitable)
    if not hasattr(cls, "__await__"):
        raise TypeError(f"'{cls.__name__}' object can't be awaited")
    iterator = awaitable.__await__()
    if is_generator_coroutine(iterator) or not hasattr(type(iterator), "__next__"):
        raise TypeError(
            f"{cls.__name__}.__await__() must return an iterator, "
            f"not {type(iterator).__name__}"
        )
    return iterator


### Throwing into an iterator
def throw(iterator, error):
    """Raise error where iterator is suspended; return what it yields next."""
    if not hasattr(iterator, "throw"):
        raise error
    return iterator.throw(error)


### Driving to the end
def drive(iterator, receive):
    """Drive iterator to its end and return its result.

    receive is called with each yielded item. It returns None to go on, or the
    exception to throw in.
    """
    try:
        item = next(iterator)
        while True:
            error = receive(item)
            if error is None:
                item = next(iterator)
            else:
                item = throw(iterator, error)
    except StopIteration as stop:
        return stop.value


### run and steps
def refuse(item):
    """Return None for a bare yield, else the exception that refuses item."""
    if item is None:
        return None
    try:
        return RuntimeError(f"waiting for {item!r} needs an event loop")
    except BaseException as error:  # a __repr__ that fails
        return error


def run(awaitable, /):
    """Drive awaitable to its end and return its result."""
    return drive(get_iter(awaitable), refuse)


def steps(awaitable, /):
    """Drive awaitable to its end and return (yielded, result)."""
    yielded = []
    result = drive(get_iter(awaitable), yielded.append)
    return yielded, result
