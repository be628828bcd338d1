"""Checks that thread_woken_future works here: run it as it is, or with pytest."""

import asyncio

from thread_woken_future import (
    Future,
    SubclassedFuture,
    count_threads,
    square,
    subclassed_square,
)


def test_threads_complete_futures():
    async def main():
        return await asyncio.gather(square(3, 0), subclassed_square(4, 0))

    assert asyncio.run(main()) == [9, 16]


def test_an_error_of_the_thread_is_raised():
    async def main():
        await square(2**40, 0)

    try:
        asyncio.run(main())
    except OverflowError:
        return
    raise AssertionError("no OverflowError")


def test_cancelling_ends_the_thread():
    async def main():
        future = square(3, 3600)
        assert future.cancel()
        while count_threads():
            await asyncio.sleep(0.001)
        assert future.cancelled()

    asyncio.run(main())


def test_futures_can_be_completed_by_hand():
    async def main():
        for kind in Future, SubclassedFuture:
            future = kind()
            asyncio.get_running_loop().call_soon(future.set_result, "done")
            assert await future == "done"

    asyncio.run(main())


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("passed:", name)
