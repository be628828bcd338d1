"""Checks that native_future_bridge works here: run it as it is, or with pytest."""

import asyncio

from native_future_bridge import compute, join, select, sleep, timeout


async def later(value):
    await asyncio.sleep(0)
    return value


def test_native_futures_and_coroutines_join():
    async def main():
        return await join(sleep(0.01, 1), compute(10), later(2))

    assert asyncio.run(main()) == [1, 55, 2]


def test_the_first_is_selected():
    async def main():
        return await select(sleep(3600), later(1))

    assert asyncio.run(main()) == 1


def test_what_takes_too_long_is_given_up():
    async def main():
        await timeout(sleep(3600), 0.01)

    try:
        asyncio.run(main())
    except TimeoutError:
        return
    raise AssertionError("no TimeoutError")


if __name__ == "__main__":
    test_native_futures_and_coroutines_join()
    test_the_first_is_selected()
    test_what_takes_too_long_is_given_up()
    print("native_future_bridge works")
