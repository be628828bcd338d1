"""Import and use the module in subinterpreters, each with its own GIL from 3.12 on."""

import sys

from subinterpreters import interpreters

CODE = f"""
import sys, types, warnings, inspect, gc
sys.path[:] = {sys.path!r}
from handmade_coroutine import Echo, Ready, Relay, add, countdown

def drive(coroutine):
    items = []
    while True:
        try:
            items.append(coroutine.send(None))
        except StopIteration as stop:
            return items, stop.value

async def awaits(*awaitables):
    return [await awaitable for awaitable in awaitables]

@types.coroutine
def later(value):
    yield value
    return value

assert drive(add(later(1), Relay(Echo(2)))) == ([1], 3)
assert drive(countdown(2, lambda: later(0))) == ([0, 0, 0], 2)
assert drive(add(Echo((1, 2)), Echo((3,)))) == ([], (1, 2, 3))
assert drive(awaits(*map(Ready, range(50)))) == ([], list(range(50)))
for operands in (3, 4), (later(1), later("text")):
    try:
        drive(add(*operands))
    except TypeError as error:
        traceback = error.__traceback__
        while traceback.tb_next is not None:
            traceback = traceback.tb_next
        assert traceback.tb_frame.f_code.co_name == "add"
    else:
        raise AssertionError
coroutine = add(later(1), later(2))
coroutine.send(None)
assert inspect.getcoroutinestate(coroutine) == "CORO_SUSPENDED"
assert coroutine.cr_frame.f_code.co_name == "add"
coroutine.close()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    add(1, 2)
assert str(caught[0].message) == "coroutine 'add' was never awaited", caught
cycle = [add(later(1), 2)]
cycle.append(cycle)
cycle[0].send(None)
del cycle, caught
gc.collect()
kept = Ready(sys.modules), add(later(1), 2)  # until the end of the interpreter
kept[1].send(None)
"""
WITH_ASYNCIO = """
import asyncio

async def main():
    async with asyncio.TaskGroup() as group:
        task = group.create_task(add(asyncio.sleep(0, 1), asyncio.sleep(0, 2)))
    return task.result()

assert asyncio.run(main()) == 3
"""
# Own-GIL subinterpreters of 3.12 abort at the end after plain asyncio alone.
if sys.version_info >= (3, 13):
    CODE += WITH_ASYNCIO

from handmade_coroutine import Echo, add  # noqa: E402 (the main interpreter has it)

for _ in range(3):
    interpreter = interpreters.create()
    failure = interpreters.run_string(interpreter, CODE)
    if failure is not None:
        sys.exit(str(failure))
    interpreters.destroy(interpreter)
    try:
        add(Echo(1), Echo(2)).send(None)
    except StopIteration as stop:
        assert stop.value == 3
print("3 subinterpreters")
