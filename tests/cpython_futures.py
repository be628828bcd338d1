"""CPython's own tests of asyncio.Future, on the four types of futures of chapter 3.

test_thread_woken_future.py imports what pytest is to find.
"""

import inspect
import unittest

import pytest
from conftest import load_model

try:
    from test.test_asyncio import test_futures as cpython
except ModuleNotFoundError:
    cpython = None

native = pytest.importorskip("thread_woken_future", reason="run: python3 run.py test")
model = load_model("thread_woken_future")
KINDS = {
    "model.Future": model.Future,
    "model.SubclassedFuture": model.SubclassedFuture,
    "native.Future": native.Future,
    "native.SubclassedFuture": native.SubclassedFuture,
}
needs_cpython_tests = pytest.mark.skipif(
    cpython is None, reason="this Python comes without test.test_asyncio"
)


# What cannot pass

# The cases that look into asyncio's own implementation, or ask for what a future made
# by hand does not offer, and what the failure then says. Some came with 3.14 or 3.15.
HANDMADE = {
    "test_callbacks_copy": "no attribute '_callbacks'",
    "test_constructor_use_global_loop": "no attribute '_loop'",
    "test_constructor_use_running_loop": "no attribute '_loop'",
    "test_evil_call_soon_list_mutation": "no attribute '_callbacks'",
    "test_future_repr": "no attribute '_source_traceback'",
    "test_future_source_traceback": "no attribute '_source_traceback'",
    # A second __init__ is refused since 3.15.
    "test_future_disallow_multiple_initialization": "RuntimeError not raised",
}
NAMED = {
    "model.Future": HANDMADE
    | {
        # Any attribute can be set.
        "test_log_traceback": "ValueError not raised",
        # __new__ without __init__ makes nothing.
        "test_uninitialized": "no attribute '_status'",
    },
    "model.SubclassedFuture": {},
    "native.Future": HANDMADE
    | {
        "test_future_cancel_message_setter": "'_cancel_message' of",  # is not writable
        "test_log_traceback": "no attribute '_log_traceback'",
        # __new__ makes all of it, and there is no __init__ to be left out.
        "test_uninitialized": "not raised",
    },
    "native.SubclassedFuture": {},
}


def deletes_the_message():
    """Whether CPython tests that the attribute of a future cannot be deleted."""
    case = cpython.BaseFutureTests.test_future_cancel_message_setter
    return "del f._cancel_message" in inspect.getsource(case)


# Some releases of one version do, others do not.
if cpython is not None and deletes_the_message():
    NAMED["model.Future"]["test_future_cancel_message_setter"] = (
        "AttributeError not raised"
    )


# The cases


def cases_of(kind):
    """Return CPython's cases for futures of C, on the type `kind`, by name."""
    if cpython is None:
        return {}

    class Futures(cpython.CFutureTests):
        cls = kind

    class Callbacks(cpython.CFutureDoneCallbackTests):
        def _new_future(self):
            return kind(loop=self.loop)

    load = unittest.defaultTestLoader.loadTestsFromTestCase
    cases = [*load(Futures), *load(Callbacks)]
    return {case.id().rpartition(".")[2]: case for case in cases}


CASES = {
    (name, case): test
    for name, kind in KINDS.items()
    for case, test in cases_of(kind).items()
}


@needs_cpython_tests
@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_future_passes_the_tests_of_cpython_but_for_the_named(name, case):
    result = unittest.TestResult()
    CASES[name, case].run(result)
    assert result.testsRun == 1 and not result.skipped
    found = "\n".join(text for _, text in result.failures + result.errors)
    named = NAMED[name].get(case)
    if named is not None:
        assert named in found, found or "it passes: it need not be named"
    elif found:
        pytest.fail(found, pytrace=False)


@needs_cpython_tests
@pytest.mark.parametrize("name", KINDS)
def test_a_future_has_to_pass_most_tests_of_cpython(name):
    passing = [case for kind, case in CASES if kind == name and case not in NAMED[name]]
    assert len(passing) >= 40
