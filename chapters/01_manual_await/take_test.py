"""Checks that manual_await works here: run it as it is, or with pytest."""

import asyncio
import types

import manual_await


class Countdown:
    """An awaitable that yields bare, `steps` times, and then gives "liftoff"."""

    def __init__(self, steps):
        self.steps = steps

    def __await__(self):
        for _ in range(self.steps):
            yield
        return "liftoff"


async def nested(awaitable):
    return await awaitable


@types.coroutine
def bad_yield():
    try:
        yield "a future"
    except RuntimeError as error:
        return str(error)


def test_run_returns_the_very_result():
    result = (object(),)

    async def give():
        return result

    assert manual_await.run(nested(give())) is result


def test_run_continues_after_bare_yields():
    assert manual_await.run(Countdown(3)) == "liftoff"
    assert manual_await.run(asyncio.sleep(0, "slept")) == "slept"


def test_run_throws_an_error_in_where_a_loop_is_needed():
    assert "needs an event loop" in manual_await.run(nested(bad_yield()))


def test_steps_returns_what_was_yielded_and_the_result():
    assert manual_await.steps(nested(Countdown(2))) == ([None, None], "liftoff")


def test_what_cannot_be_awaited_is_a_type_error():
    try:
        manual_await.run(3)
    except TypeError as error:
        assert "int" in str(error)
    else:
        raise AssertionError("run(3) raised nothing")


def test_exceptions_pass_through():
    async def fail():
        raise KeyError("here")

    try:
        manual_await.run(nested(fail()))
    except KeyError as error:
        assert error.args == ("here",)
    else:
        raise AssertionError("the KeyError was lost")


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("passed:", name)
