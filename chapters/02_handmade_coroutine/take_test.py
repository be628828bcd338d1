"""Checks that handmade_coroutine works here: run it as it is, or with pytest."""

import asyncio
import inspect

from handmade_coroutine import Echo, Relay, add, countdown


async def later(value):
    await asyncio.sleep(0)
    return value


def test_awaitables_give_their_value():
    async def ask(awaitable):
        return await awaitable

    for value in None, (1, 2), StopIteration("value"):
        assert asyncio.run(ask(Relay(Echo(value)))) is value


def test_add_adds_what_it_awaits():
    assert asyncio.run(add(later(1), Echo(2))) == 3


def test_add_is_a_coroutine():
    coroutine = add(Echo(1), Echo(2))
    assert asyncio.iscoroutine(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
    coroutine.close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_cancelling_reaches_what_is_awaited():
    reached = []

    async def wait():
        try:
            await asyncio.sleep(3600)
        finally:
            reached.append(True)

    async def main():
        task = asyncio.create_task(add(wait(), Echo(1)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert reached == [True]


def test_the_finally_of_countdown_awaits_once_more():
    ticks = []

    async def tick():
        ticks.append(len(ticks))
        if len(ticks) == 2:
            raise KeyError("here")

    try:
        asyncio.run(countdown(5, tick))
    except KeyError as error:
        assert error.args == ("here",)
    else:
        raise AssertionError("the KeyError was lost")
    assert ticks == [0, 1, 2]


def test_the_own_lines_are_in_the_traceback():
    try:
        asyncio.run(add(later(1), later("2")))
    except TypeError as error:
        traceback = error.__traceback__
        while traceback.tb_next is not None:
            traceback = traceback.tb_next
        assert traceback.tb_frame.f_code.co_name == "add"
    else:
        raise AssertionError("adding raised nothing")


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("passed:", name)
