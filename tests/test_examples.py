"""The example of page 5: a library that calls back, as something to await."""

import asyncio
import contextlib
import gc
import runpy
import sys

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Compile the thermometer and return its function."""
    folder = tmp_path_factory.mktemp("thermometer")
    runpy.run_path(str(ROOT / "examples/thermometer/demo.py"))["build"](folder)
    sys.path.insert(0, str(folder))
    try:
        import thermometer
    finally:
        sys.path.remove(str(folder))
    return thermometer.read


def test_a_result_and_an_error_come_from_the_library(read):
    async def main():
        assert await asyncio.gather(read(0), read(1)) == [20.5, 21.5]
        with pytest.raises(RuntimeError, match=r"^the thermometer is broken$"):
            await read(2)
        with pytest.raises(RuntimeError, match=r"^the thermometer cannot be read$"):
            await read(3)

    asyncio.run(main())


def test_wrong_arguments_are_refused(read):
    for wrong, error in (
        ("a", TypeError),
        (2**70, OverflowError),
        (2**40, OverflowError),
    ):
        with pytest.raises(error):
            read(wrong)


@pytest.mark.filterwarnings("error")
def test_the_library_may_call_back_when_nobody_waits_any_more(read):
    async def give_up():
        tasks = [asyncio.ensure_future(read(number % 3)) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.sleep(0)

    for _ in range(10):
        asyncio.run(give_up())  # the other half is cancelled at its end
        loop = asyncio.new_event_loop()
        with contextlib.closing(loop):
            task = loop.create_task(read(0))
            loop.run_until_complete(asyncio.sleep(0))
            task.get_coro().close()
        del task, loop
    assert asyncio.run(read(0)) == 20.5
    gc.collect()
