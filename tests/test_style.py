"""The sources keep the house style; .clang-format and pyproject.toml hold it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["chapters", "common", "examples", "tests"]
C_FILES = sorted(path for name in FOLDERS for path in ROOT.glob(f"{name}/**/*.[ch]"))
PYTHON = ["run.py", "chapters", "examples", "tools", "tests"]


def run_tool(name, *arguments):
    """Run a formatter of our `lint` group from the root; skip the test without it.

    Return its exit status and all that it printed.
    """
    tool = Path(sys.executable).parent / name  # others on PATH are other versions
    if not tool.exists():
        pytest.skip(f"{name} is not installed (dependency group `lint`)")
    done = subprocess.run(
        [tool, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_clang_format_would_change_nothing(path):
    status, output = run_tool("clang-format", "--dry-run", "-Werror", path)
    assert status == 0, f"mend it with: clang-format -i {path}\n{output}"


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_lines_of_c_fit_in_79_columns(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > 79]
    assert not long, f"{path.name} is too wide in the lines {long}"


def test_ruff_finds_nothing():
    status, output = run_tool("ruff", "check", "--no-cache", *PYTHON)
    assert status == 0, f"mend it with: ruff check --fix\n{output}"


def test_ruff_would_format_nothing():
    status, output = run_tool("ruff", "format", "--no-cache", "--check", *PYTHON)
    assert status == 0, f"mend it with: ruff format\n{output}"
