"""What the tests of all chapters share: the model, and programs run on their own."""

import asyncio
import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path

import pytest

pytest.register_assert_rewrite(
    "coroutine_machine",
    "cpython_futures",
    "future_protocol",
    "native_ends",
    "native_trees",
    "threads_and_ends",
)

ROOT = Path(__file__).resolve().parent.parent


def load_model(stem):
    """Import model.py of the chapter `stem` as the module `stem`_model."""
    (path,) = ROOT.glob(f"chapters/[0-9][0-9]_{stem}/model.py")
    spec = importlib.util.spec_from_file_location(f"{stem}_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def import_or_skip(name):
    """Import the package `name`, or skip the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"needs {name}")


@contextlib.contextmanager
def loop_in_a_thread():
    """Let an event loop run in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Awaitable:
    """An awaitable whose __await__ is `function`."""

    def __init__(self, function):
        self.function = function

    def __await__(self):
        return self.function()


@types.coroutine
def yield_item(item):
    return (yield item)


def isolated_command(script, *args, options=()):
    """Return the command that runs tests/isolated/`script` with this Python."""
    path = ROOT / "tests" / "isolated" / script
    return [sys.executable, *options, path, *map(str, args)]


def start_isolated(script, *args):
    """Start tests/isolated/`script` with this Python; its streams are pipes."""
    return subprocess.Popen(
        isolated_command(script, *args),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
    )


def run_isolated(script, *args, timeout=100):
    """Run tests/isolated/`script` and return what it printed.

    Fails the test if it crashed, ended with an error, wrote to stderr or took
    longer than `timeout` seconds. A script that ends with status 77 skips the
    test, with its last line as the reason.
    """
    with start_isolated(script, *args) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"{script} took over {timeout} s\n{out}\n{err}", pytrace=False)
    if process.returncode == 77:
        pytest.skip(out.splitlines()[-1])
    if process.returncode or err:
        pytest.fail(
            f"{script} ended with {process.returncode}\n{out}\n{err}", pytrace=False
        )
    return out


def end_isolated(script, *args, options=()):
    """Run tests/isolated/`script`; return its status and what it wrote.

    `options` are Python's own.
    """
    ended = subprocess.run(
        isolated_command(script, *args, options=options),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return ended.returncode, ended.stdout, ended.stderr


def survives(script, *args):
    """Whether tests/isolated/`script`, a control without us, survives."""
    return end_isolated(script, *args)[0] == 0


def small_stack(script, *controls):
    """Return the least stack, in KiB, in which plain Python survives `controls`.

    They are cases of tests/isolated/`script`. Up to 3.13 Python counts calls, not
    bytes, and deep recursion in a small stack ends the process without our help.
    """
    sizes = [256, 384, 512, 1024, 2048, 4096, 8192]
    for size in sizes:
        if all(survives(script, control, size) for control in controls):
            # The frames of our C are larger than they need be: it is not optimised
            # for the tests, and AddressSanitizer makes them larger still.
            return size * (8 if "libasan" in os.environ.get("LD_PRELOAD", "") else 2)
    pytest.skip(f"plain Python crashes with {sizes[-1]} KiB of stack")
