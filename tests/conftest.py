"""What the tests of all chapters share: the model, and programs run on their own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load_model(stem):
    """Import model.py of the chapter `stem` as the module `stem`_model."""
    (path,) = ROOT.glob(f"chapters/[0-9][0-9]_{stem}/model.py")
    spec = importlib.util.spec_from_file_location(f"{stem}_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start_isolated(script, *args):
    """Start tests/isolated/`script` with this Python; its streams are pipes."""
    return subprocess.Popen(
        [sys.executable, ROOT / "tests" / "isolated" / script, *map(str, args)],
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
