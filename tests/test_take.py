"""A chapter can be taken home: its project builds and works on its own."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import take

ROOT = Path(__file__).resolve().parent.parent

# What pip says when the network is to blame, and nothing of ours.
NO_NETWORK = "connection broken by|Failed to establish a new connection|ProxyError"

NAMES = pytest.mark.parametrize("name", ["manual_await", "my_await"])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A directory to work in whose children see nothing of the checkout."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def this_python(elsewhere, monkeypatch):
    """The Python that runs the tests is the `python3` of the shell's commands."""
    (elsewhere / "bin").mkdir()
    script = elsewhere / "bin/python3"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{elsewhere}/bin", prepend=os.pathsep)


def take_home(name):
    """Take manual_await to the directory `home`, and return its path."""
    options = [] if name == "manual_await" else ["--name", name]
    assert take.main(["manual_await", "home", *options]) == 0
    return Path("home").resolve()


def run(*command, cwd=None):
    """Run a command to its end; return its status, and its output with stderr."""
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


@pytest.mark.once
@NAMES
def test_pip_installs_the_project_and_its_test_passes(name, elsewhere):
    home = take_home(name)
    status, output = run(sys.executable, "-m", "venv", "venv")
    assert status == 0, output
    python = elsewhere / "venv/bin/python"
    status, output = run(python, "-m", "pip", "install", home)
    if status and re.search(NO_NETWORK, output):
        pytest.skip("no network for pip")
    assert status == 0, output
    status, output = run(python, home / f"test_{name}.py")
    assert status == 0, output
    assert "passed: test_run_returns_the_very_result" in output
    status, output = run(python, "-c", f"import {name}; print({name}.__file__)")
    assert status == 0, output
    assert Path(output).is_relative_to(elsewhere / "venv")


@NAMES
def test_one_command_compiles_it_and_its_test_passes(name, this_python):
    home = take_home(name)
    command = take.COMPILE.replace("NAME", name)
    assert f"`{command}`" in (home / "README.md").read_text()
    assert run("sh", "-c", command, cwd=home) == (0, "")
    status, output = run(sys.executable, home / f"test_{name}.py")
    assert status == 0, output
    assert "passed: test_run_returns_the_very_result" in output
    status, output = run(sys.executable, "-m", "pytest", home / f"test_{name}.py")
    assert status == 0, output


@NAMES
def test_it_compiles_without_warnings(name, this_python):
    strict = take.COMPILE.replace("cc ", "cc -std=c11 -Wall -Wextra -Werror ")
    assert run("sh", "-c", strict.replace("NAME", name), cwd=take_home(name)) == (0, "")


def test_its_test_fails_when_the_module_is_broken(elsewhere):
    home = take_home("my_await")
    (home / "my_await.py").write_text("run = steps = lambda awaitable: awaitable\n")
    status, output = run(sys.executable, home / "test_my_await.py")
    assert status == 1
    assert "AssertionError" in output


@NAMES
def test_it_holds_the_headers_that_it_includes_and_no_others(name, elsewhere):
    home = take_home(name)
    headers = {path.name for path in home.glob("*.h")}
    included = set()
    for path in home.glob("*.[ch]"):
        included |= set(re.findall('#include "(.*)"', path.read_text()))
    assert headers == included
    others = {path.name for path in home.iterdir()} - headers
    assert others == {
        f"{name}.c",
        f"test_{name}.py",
        "LICENSE",
        "README.md",
        "meson.build",
        "pyproject.toml",
    }


def test_headers_are_followed_to_those_that_they_include(tmp_path):
    (tmp_path / "first.h").write_text('#include "second.h"\n#include <stdio.h>\n')
    (tmp_path / "second.h").write_text('#include "first.h"\n')
    (tmp_path / "third.h").write_text("")
    headers = take.included_headers('#include "first.h"\n', tmp_path)
    assert set(headers) == {"first.h", "second.h"}


def test_a_new_name_replaces_the_old_one(elsewhere):
    home = take_home("my_await")
    for path in home.iterdir():
        text = path.read_text()
        # The book's page keeps its name, and so does the chapter.
        text = text.replace("01_manual_await.md", "").replace(
            "chapter manual_await", ""
        )
        assert "manual_await" not in text, path.name
    project = tomllib.loads((home / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my_await"


@NAMES
def test_nothing_in_it_names_this_machine(name, elsewhere):
    for path in take_home(name).iterdir():
        for place in (ROOT, Path.home(), elsewhere, sys.prefix, sys.base_prefix):
            assert f"{place}/" not in path.read_text(), path.name


def test_it_says_what_it_wrote_and_what_to_do_next(elsewhere, capsys):
    home = take_home("my_await")
    output = capsys.readouterr().out
    for path in home.iterdir():
        assert path.name in output
    assert "python3 -m venv venv && venv/bin/pip install .\n" in output
    assert "venv/bin/python test_my_await.py\n" in output


def test_the_page_of_each_chapter_quotes_the_compiler_command():
    for chapter in ROOT.glob("chapters/[0-9]*_*"):
        page = ROOT / "book" / f"{chapter.name}.md"
        name = re.search(r"--name (\w+)", page.read_text())[1]
        files = take.project_files(ROOT, page.stem[3:], name)
        (command,) = re.findall("`(cc .*)` ", files["README.md"])
        assert command in page.read_text(), page.name


def test_an_empty_directory_will_do_and_so_will_new_ones(elsewhere):
    Path("empty").mkdir()
    assert take.main(["manual_await", "empty"]) == 0
    assert take.main(["manual_await", "new/newer"]) == 0
    names = [sorted(os.listdir(path)) for path in ("empty", "new/newer")]
    assert names[0] == names[1] != []


def refuse(arguments, capsys):
    """Return why `arguments` are refused, having checked that nothing changed."""
    before = sorted(Path.cwd().rglob("*"))
    assert take.main(arguments) == 2
    assert sorted(Path.cwd().rglob("*")) == before
    output, error = capsys.readouterr()
    assert output == ""
    return error


def test_an_unknown_chapter_is_refused_and_the_known_are_listed(elsewhere, capsys):
    error = refuse(["manual", "home"], capsys)
    assert "no chapter 'manual'; there is: " in error
    assert "manual_await" in error


@pytest.mark.parametrize("name", ["", "1st", "my-await", "_a", "a_", "naïve", "class"])
def test_what_cannot_be_a_name_is_refused(name, elsewhere, capsys):
    error = refuse(["manual_await", "home", "--name", name], capsys)
    assert f"{name!r} cannot be the name" in error


@pytest.mark.parametrize("name", ["json", "asyncio", "test"])
def test_a_name_of_the_standard_library_is_refused(name, elsewhere, capsys):
    error = refuse(["manual_await", "home", "--name", name], capsys)
    assert f"{name!r} is a module of the standard library" in error


def test_a_directory_that_is_not_empty_is_refused(elsewhere, capsys):
    (elsewhere / "home").mkdir()
    (elsewhere / "home/letter").write_text("dear reader")
    error = refuse(["manual_await", "home"], capsys)
    assert "home exists and is not an empty directory" in error


def test_a_file_is_refused(elsewhere, capsys):
    (elsewhere / "home").write_text("dear reader")
    error = refuse(["manual_await", "home"], capsys)
    assert "home exists and is not an empty directory" in error
    error = refuse(["manual_await", "home/below"], capsys)
    assert error.startswith("Nothing was written: ")


def test_a_failure_half_way_leaves_nothing(elsewhere):
    files = {"first": "", "no_such_directory/second": ""}
    with pytest.raises(FileNotFoundError):
        take.write_project(files, elsewhere / "new/home")
    assert not list(elsewhere.iterdir())


CHAPTERS = sorted(path.name[3:] for path in ROOT.glob("chapters/[0-9][0-9]_*"))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_works_at_home_under_another_name(chapter, this_python):
    assert take.main([chapter, "home", "--name", "mine"]) == 0
    home = Path("home").resolve()
    strict = take.COMPILE.replace("cc ", "cc -std=c11 -Wall -Wextra -Werror ")
    assert run("sh", "-c", strict.replace("NAME", "mine"), cwd=home) == (0, "")
    status, output = run(sys.executable, home / "test_mine.py")
    assert status == 0, output
