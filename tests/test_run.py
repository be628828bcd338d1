"""run.py: its commands, what it says when something is missing, what it counts.

Most tests drive the real run.py in a small checkout of two tiny chapters, with an
environment lent by the one that runs these tests, so that none needs the network.
"""

import ast
import collections
import importlib.util
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ["01_tiny", "02_small"]

C_SOURCE = """\
#include <Python.h>
static PyModuleDef_Slot slots[] = {
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};
static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "STEM", .m_slots = slots,
};
PyMODINIT_FUNC
PyInit_STEM(void)
{
    return PyModuleDef_Init(&module);
}
"""
C_BUILD = """\
chapter_module = python.extension_module(
  'STEM', 'STEM.c', dependencies: python.dependency(), install: true)
"""
DEMO = '''\
"""The title of STEM

Its idea, which is one sentence and yet so long that it does not fit on one line of
text.
"""

import STEM

print("it is", STEM.__name__)
'''
CHAPTER_TEST = """\
import pytest
import STEM

def test_passes():
    assert STEM.__file__

def test_skips():
    pytest.skip("no moon in the sky")
"""
HOUSE_TEST = """\
import pytest
import tiny, small

@pytest.mark.once
def test_passes():
    pass
"""
TOOL = """\
import os, shutil, sys
import tiny, small
print([os.path.basename(sys.argv[0]), *sys.argv[1:]], os.getcwd())
print(shutil.which("ninja"))
sys.exit(7)
"""


def load(path):
    """Import the run.py at path as a module."""
    spec = importlib.util.spec_from_file_location("run", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(**changes):
    """Return os.environ with changes, without what steers the outer test run."""
    foreign = re.compile("(PYTEST|PIP|MESON|MALLOC|PYTHON)_?|(CC|CFLAGS|LDFLAGS)$")
    env = {key: value for key, value in os.environ.items() if not foreign.match(key)}
    env["PIP_CONFIG_FILE"] = os.devnull
    env.update({key: str(value) for key, value in changes.items()})
    return env


def run(checkout, *words, cwd="/", code=None, **env):
    """Run checkout/run.py with words, or code that may import it; keep its output."""
    command = [checkout / "run.py", *words]
    if code:
        command = ["-c", f"import sys; sys.path.insert(0, {str(checkout)!r})\n{code}"]
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def stopped(done):
    """Return the lines of a run that had to stop: status 1, no traceback."""
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


MAKE_VENV = venv.create  # before a test replaces it


def lend(path, **options):
    """Make a virtual environment that sees the packages of ours, pip among them."""
    MAKE_VENV(path, symlinks=True, with_pip=False)
    (site,) = path.glob("lib/python*/site-packages")
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "lent.pth").write_text("\n".join(sorted(lent)))


@pytest.fixture
def bare(tmp_path):
    """Return a checkout in which nothing was made yet."""
    shutil.copy(ROOT / "run.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in CHAPTERS:
        (tmp_path / "chapters" / name).mkdir(parents=True)
    return tmp_path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Return a checkout that works, with its environment but nothing built."""
    pytest.importorskip("mesonbuild", reason="needs meson")
    ninja = shutil.which("ninja") or pytest.skip("needs ninja")
    checkout = tmp_path_factory.mktemp("a checkout")
    shutil.copy(ROOT / "run.py", checkout)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    (checkout / "common").mkdir()
    (checkout / "tests").mkdir()
    (checkout / "tools").mkdir()
    for name in CHAPTERS:
        folder, stem = checkout / "chapters" / name, name[3:]
        folder.mkdir(parents=True)
        (folder / f"{stem}.c").write_text(C_SOURCE.replace("STEM", stem))
        (folder / "meson.build").write_text(C_BUILD.replace("STEM", stem))
        (folder / "demo.py").write_text(DEMO.replace("STEM", stem))
        test = checkout / "tests" / f"test_{stem}.py"
        test.write_text(CHAPTER_TEST.replace("STEM", stem))
    (checkout / "tests" / "test_house.py").write_text(HOUSE_TEST)
    for name in ("weave.py", "breaks.py", "take.py"):
        (checkout / "tools" / name).write_text(TOOL)
    build, replaced = re.subn(
        r"(foreach chapter : )\[.*?\]",
        rf"\1{CHAPTERS}",
        (ROOT / "meson.build").read_text(),
        flags=re.DOTALL,
    )
    assert replaced == 1
    (checkout / "meson.build").write_text(build)

    copy = load(checkout / "run.py")
    lend(copy.BIN.parent)
    (copy.BIN / "ninja").symlink_to(ninja)
    meson = copy.BIN / "meson"
    meson.write_text(
        f'#!/bin/sh\nexec "{copy.BIN}/python" -m mesonbuild.mesonmain "$@"'
    )
    meson.chmod(0o755)
    (copy.BIN.parent / "stamp").write_text("\n".join(copy.requirements("dev")))
    return checkout


@pytest.fixture
def edit():
    """Return a function that changes a file for the time of one test."""
    before = {}

    def change(path, text):
        before.setdefault(path, path.read_text())
        path.write_text(text)

    yield change
    for path, text in before.items():
        path.write_text(text)


@pytest.fixture
def programs(tmp_path):
    """Return a function that makes a folder for PATH of named shell scripts."""

    def make(**scripts):
        folder = tmp_path / "programs"
        folder.mkdir()
        for name, script in scripts.items():
            path = folder / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        return folder

    return make


# What it is told ------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_it_lists_its_commands(bare, words):
    done = run(bare, *words)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("tour", "test", "python", "weave", "break", "take"):
        assert re.search(rf"^  {command}\b.*  \w", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.once
@pytest.mark.parametrize(
    "words", [["sing"], ["tour", "now"], ["test", "--fast"], ["--version"]]
)
def test_what_it_does_not_know_gets_the_usage_on_stderr(bare, words):
    done = run(bare, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python3 run.py COMMAND" in done.stderr
    assert not (bare / "build").exists()


@pytest.mark.once
def test_an_unknown_chapter_lists_the_chapters_and_installs_nothing(bare):
    done = run(bare, "test", "tiny", "timy")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "There is no chapter timy. There are: tiny, small\n"
    assert not (bare / "build").exists()


@pytest.mark.once
def test_meson_builds_the_chapters_that_have_a_folder():
    text = (ROOT / "meson.build").read_text()
    listed = re.search(r"foreach chapter : (\[.*?\])", text, re.DOTALL)[1]
    assert ast.literal_eval(listed) == list(load(ROOT / "run.py").chapters().values())


# What is missing ------------------------------------------------------------


@pytest.mark.once
def test_an_old_python_is_told_of_a_newer_one_on_path(bare, programs):
    old = "import runpy; sys.version_info = (3, 10, 13, 'final', 0); sys.argv[1:] = "
    old += (
        f"['test', 'tiny']; runpy.run_path({str(bare / 'run.py')!r}, None, '__main__')"
    )
    path = programs(**{"python3.11": "exit 127", "python3.12": "exit 0"})
    lines = stopped(run(bare, code=old, PATH=path))
    assert lines[0] == "This is cpython 3.10.13, but CPython 3.11 or newer is needed."
    assert re.fullmatch("    python3.12 .* test tiny", lines[1])
    (path / "python3.12").unlink()
    assert "python.org" in stopped(run(bare, code=old, PATH=path))[1]


@pytest.mark.once
def test_old_pythons_come_as_far_as_saying_that_they_are_old(bare):
    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 8))
    pyenv = Path.home() / ".pyenv" / "versions"
    found = [*pyenv.glob("3.8.*/bin/python"), *pyenv.glob("3.10.*/bin/python")]
    found = found or [*filter(None, map(shutil.which, ["python3.8", "python3.10"]))]
    for python in found:
        command = [python, bare / "run.py", "tour"]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment()
        )
        if done.returncode != 127:  # a version manager's stand-in
            assert "3.11 or newer is needed" in stopped(done)[0]
    if not found:
        pytest.skip("needs a Python from 3.8 to 3.10")


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        (
            "import importlib.util as module\nmodule.find_spec = lambda name: None",
            "This Python cannot make environments: no ensurepip.",
        ),
        (
            "import sysconfig as module; module.get_path = lambda name: '/nowhere'",
            "This Python has no C headers: no /nowhere/Python.h.",
        ),
    ],
    ids=["ensurepip", "headers"],
)
def test_a_python_without_its_parts_is_told_what_to_install(bare, patch, says):
    (bare / "sitecustomize.py").write_text(patch)
    lines = stopped(run(bare, "tour", PYTHONPATH=bare, CC="true"))
    assert lines[0] == says
    assert len(lines) == 2
    assert re.search("install", lines[1], re.IGNORECASE)


@pytest.mark.once
def test_no_compiler_is_told_what_to_install(bare, programs):
    path = programs(apt_get="exit 1")
    lines = stopped(run(bare, "test", PATH=path))
    assert lines[0] == "There is no C compiler: no cc."
    assert re.fullmatch(r"    (sudo )?apt-get install .*\bgcc\b.*", lines[1])


@pytest.mark.once
def test_a_compiler_named_in_cc_is_the_one_that_is_tried(bare, programs):
    lines = stopped(run(bare, "tour", CC="gcc-0 -m64"))
    assert lines[0] == "There is no C compiler: no gcc-0."


@pytest.mark.once
def test_a_compiler_that_cannot_link_is_quoted(bare, programs):
    path = programs(cc="echo cannot find Scrt1.o >&2; exit 1", apt_get="exit 1")
    lines = stopped(run(bare, "tour", PATH=path))
    assert lines[0] == "The C compiler does not work:"
    assert lines[1] == "    cannot find Scrt1.o"
    assert "apt-get install" in lines[2]


@pytest.mark.once
@pytest.mark.parametrize(
    ("base", "tools", "compiler", "says"),
    [
        ("/usr/bin/python3", ["apt-get"], False, "python3-venv python3-dev gcc"),
        ("/usr/bin/python3", ["apt-get"], True, "python3-venv python3-dev gcc"),
        ("/usr/bin/other", ["apt-get"], False, "python3.{0}-venv python3.{0}-dev gcc"),
        ("/opt/bin/python3", ["apt-get"], True, "apt-get install gcc libc6-dev"),
        ("/opt/bin/python3", ["apt-get"], False, "Install a Python that comes with"),
        ("/usr/bin/python3", ["dnf"], False, "dnf install python3-devel gcc"),
        ("/opt/bin/python3", [], True, "Install a C compiler and the headers"),
    ],
)
def test_the_remedy_suits_the_system(monkeypatch, base, tools, compiler, says):
    module = load(ROOT / "run.py")
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setattr(module, "BASE", Path(os.path.realpath(base)))
    monkeypatch.setattr(module.shutil, "which", lambda name: name in tools)
    assert says.format(sys.version_info[1]) in module.remedy(compiler)


@pytest.mark.once
def test_a_checkout_that_cannot_be_written_is_told_how_to_go_on(bare, monkeypatch):
    (bare / "build").write_text("in the way")
    lines = stopped(run(bare, "tour"))
    assert lines[0] == f"Cannot write to {bare}/build: File exists."
    assert lines[1] == f"    rm {bare}/build   (it must be a folder)"
    module = load(bare / "run.py")
    (bare / "build").unlink()

    def refuse(*args):
        raise OSError(30, "Read-only file system", "there")

    monkeypatch.setattr(module, "make_environment", refuse)
    with pytest.raises(module.Stop) as stop:
        module.prepare()
    what, mend = stop.value.args
    assert what == "Cannot write to there: Read-only file system."
    assert mend.startswith(f"cp -r {bare} ~")


def failed_install(bare, monkeypatch, **env):
    """Return the lines of run.py when its pip fails because of env."""
    pytest.importorskip("pip", reason="needs pip")
    missing = '[dependency-groups]\ndev = ["await-in-c-needs-this"]'
    (bare / "pyproject.toml").write_text(missing)
    module = load(bare / "run.py")
    monkeypatch.setattr(module.venv, "create", lend)
    monkeypatch.setattr(module.os, "environ", environment(**env))
    with pytest.raises(module.Stop) as stop:
        module.prepare()
    assert not (module.BIN.parent / "stamp").exists()
    return stop.value.args


def test_a_first_run_without_network_says_so_and_quotes_pip(bare, monkeypatch):
    index = "http://127.0.0.1:9/simple"
    lines = failed_install(bare, monkeypatch, PIP_INDEX_URL=index, PIP_RETRIES=1)
    assert lines[0].startswith("The first run needs the network")
    assert lines[1].startswith("ERROR: ")
    assert "Connect" in lines[2]


def test_another_failure_of_pip_is_quoted(bare, monkeypatch):
    lines = failed_install(bare, monkeypatch, PIP_NO_INDEX=1)
    assert lines[0] == "pip could not install what is needed:"
    assert lines[-1].startswith("ERROR: No matching distribution found for ")


# What it makes --------------------------------------------------------------


def test_an_environment_that_was_left_half_made_is_made_anew(bare):
    module = load(bare / "run.py")
    wheel = bare / "pebble-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("pebble.py", "weight = 3")
        file.writestr("pebble-1.0.dist-info/METADATA", "Name: pebble\nVersion: 1.0")
        file.writestr(
            "pebble-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any",
        )
        file.writestr("pebble-1.0.dist-info/RECORD", "")
    groups = '[dependency-groups]\nbuild = ["pebble @ file://{}"]\ndev = [{}]'
    nested = '{ include-group = "build" }'
    (bare / "pyproject.toml").write_text(groups.format(wheel, nested))
    half_made = [module.BIN / "python", module.TREE / "build.ninja"]
    for path in half_made:
        path.parent.mkdir(parents=True)
        path.write_text("cut off")

    code = "import run; run.make_environment()"
    done = run(bare, code=code)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert re.search(r"^    Installing .*pebble", done.stderr, re.MULTILINE)
    assert not module.TREE.exists()
    weight = [module.BIN / "python", "-c", "import pebble; print(pebble.weight)"]
    assert subprocess.check_output(weight, env=environment(), text=True) == "3\n"

    done = run(bare, code=code, CC="no-compiler-now")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    (bare / "pyproject.toml").write_text('[dependency-groups]\ndev = ["more"]')
    done = run(bare, code=code, CC="no-compiler-now")
    assert "no-compiler-now" in done.stderr  # it set out to make a new one


def test_a_build_that_was_left_half_made_is_made_anew(tiny):
    assert run(tiny, "tour").returncode == 0
    tree = load(tiny / "run.py").TREE
    (tree / "stamp").unlink()
    (tree / "meson-private" / "coredata.dat").write_text("cut off")
    (tree / "build.ninja").write_text("cut off")
    done = run(tiny, "tour")
    assert done.returncode == 0, done.stderr
    assert "Setting up build/" in done.stderr


def test_what_was_edited_is_built_again_and_nothing_else(tiny, edit):
    run(tiny, "tour")
    assert run(tiny, "tour").stderr == ""
    source = tiny / "chapters" / "01_tiny" / "tiny.c"
    edit(source, source.read_text().replace('"tiny"', '"tiny", .m_doc = "grown"'))
    done = run(tiny, "python", "-c", "import tiny; print(tiny.__doc__)")
    assert done.stdout == "grown\n"
    assert "Compiling C object chapters/01_tiny" in done.stderr
    assert "small.c" not in done.stderr
    assert "Setting up" not in done.stderr


@pytest.mark.once
def test_another_compiler_gets_a_new_build(tiny):
    run(tiny, "tour")
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert "Setting up" in run(tiny, "tour", CC=compiler).stderr


@pytest.mark.once
def test_an_error_in_c_shows_what_the_compiler_says(tiny, edit):
    source = tiny / "chapters" / "01_tiny" / "tiny.c"
    edit(source, source.read_text() + "static int unused;\n")
    lines = stopped(run(tiny, "test", "tiny"))
    assert any(re.search("unused.*-Werror", line) for line in lines)


@pytest.mark.once
def test_an_error_in_meson_build_shows_what_meson_says(tiny, edit):
    edit(tiny / "meson.build", "project('x', 'c')\nfoo()\n")
    stamp = load(tiny / "run.py").TREE / "stamp"
    stamp.unlink(missing_ok=True)
    lines = stopped(run(tiny, "tour"))
    assert "meson could not set up the build:" in lines
    assert any("Unknown function" in line for line in lines)
    assert not stamp.exists()


@pytest.mark.once
def test_a_second_run_waits_for_the_first_to_finish_its_build(tiny):
    fcntl = pytest.importorskip("fcntl")
    run(tiny, "tour")
    home = load(tiny / "run.py").HOME
    with open(f"{home}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            [sys.executable, tiny / "run.py", "tour"],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as second:
            assert second.stderr.readline().startswith("Waiting for another run.py")
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert second.stderr.read() == ""
    assert second.returncode == 0


# tour -----------------------------------------------------------------------


def test_tour_plays_each_demo(tiny):
    done = run(tiny, "tour", cwd=tiny / "common")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(
        f"""
{number}. The title of {stem}

Its idea, which is one sentence and yet so long that it does not fit on one line
of text.

    import {stem}

    print("it is", {stem}.__name__)

It prints:

    it is {stem}

Read on: book/0{number}_{stem}.md
"""
        for number, stem in [(1, "tiny"), (2, "small")]
    )


@pytest.mark.once
@pytest.mark.parametrize("variable", [{}, {"NO_COLOR": 1}, {"NO_COLOR": ""}])
def test_tour_sets_titles_in_bold_on_a_terminal_only(tiny, variable):
    assert "\033" not in run(tiny, "tour").stdout
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen:
        command = [sys.executable, tiny / "run.py", "tour"]
        tour = subprocess.Popen(command, env=environment(**variable), stdout=theirs)
        os.close(theirs)
        shown = b""
        try:
            while part := screen.read(4096):
                shown += part
        except OSError:  # how Linux says that the other side was closed
            pass
    assert tour.wait(timeout=100) == 0
    assert b"The title of tiny" in shown
    bold = b"\033[1m1. The title of tiny\033[0m" in shown
    assert bold == (not variable.get("NO_COLOR"))
    assert bold == (b"\033" in shown)


@pytest.mark.once
def test_tour_goes_on_after_a_demo_that_fails_and_exits_with_1(tiny, edit):
    demo = tiny / "chapters" / "01_tiny" / "demo.py"
    edit(demo, '"""Title\n\nIdea.\n"""\n\nprint("half", flush=True)\nraise OSError(5)')
    done = run(tiny, "tour")
    assert done.returncode == 1
    assert "    half\n" in done.stdout
    assert "it is small" in done.stdout
    assert "OSError: 5\nchapters/01_tiny/demo.py failed, exit status 1." in done.stderr


@pytest.mark.once
@pytest.mark.parametrize("word", ["tour", "--help"])
def test_output_into_a_pipe_that_is_closed_ends_without_a_word(tiny, word):
    run(tiny, "tour")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, tiny / "run.py", word]
    env = environment()
    with open(writer) as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=-1, env=env, timeout=100)
    assert done.stderr == b""


@pytest.fixture
def listening():
    """Let programs that are started get Ctrl-C, which a script's & would turn off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.once
def test_ctrl_c_ends_it_with_status_130_and_no_traceback(
    tiny, edit, tmp_path, listening
):
    started = tmp_path / "started"
    os.mkfifo(started)
    demo = tiny / "chapters" / "01_tiny" / "demo.py"
    edit(
        demo,
        f'"""Title\n\nIdea.\n"""\nopen({str(started)!r}, "w").close()\n'
        "import signal\nwhile True:\n    signal.pause()",
    )
    tour = subprocess.Popen(
        [sys.executable, tiny / "run.py", "tour"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started.open().close()  # waits for the demo to open it
    os.killpg(tour.pid, signal.SIGINT)
    _, errors = tour.communicate(timeout=100)
    assert tour.returncode == 130
    assert "Traceback" not in errors


# test -----------------------------------------------------------------------


def test_test_runs_everything_and_counts_it_in_its_last_line(tiny):
    done = run(tiny, "test")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-2:] == [
        "2 skipped: no moon in the sky",
        "3 passed, 0 failed, 2 skipped",
    ]


@pytest.mark.once
@pytest.mark.parametrize("words", [["tiny"], ["01_tiny", "tiny"]])
def test_test_of_a_chapter_runs_that_chapter_alone(tiny, words):
    done = run(tiny, "test", *words)
    assert done.stdout.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"


@pytest.mark.once
def test_house_tests_that_were_all_deselected_are_no_failure(tiny):
    done = run(tiny, "test", PYTEST_ADDOPTS='-m "not once"')
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "2 passed, 0 failed, 2 skipped"


@pytest.mark.once
@pytest.mark.parametrize("where", ["small", "house"])
def test_a_failing_test_is_counted_and_exits_with_1(tiny, edit, where):
    edit(tiny / "tests" / f"test_{where}.py", "def test_fails():\n    assert 0\n")
    done = run(tiny, "test")
    assert done.returncode == 1
    assert re.search(r"\d passed, 1 failed, \d skipped\n\Z", done.stdout)


@pytest.mark.once
@pytest.mark.parametrize("where", ["tiny", "house"])
def test_a_run_that_crashes_is_named_and_old_results_are_not_counted(tiny, edit, where):
    run(tiny, "tour")
    module = load(tiny / "run.py")
    for path in (module.TREE / "tiny.xml", module.HOME / "house.xml"):
        path.write_text("<s>" + "<testcase/>" * 50 + "</s>")
    crash = "import os\ndef test_crashes():\n    os.abort()\n"
    edit(tiny / "tests" / f"test_{where}.py", crash)
    done = run(tiny, "test")
    assert done.returncode == 1
    assert f"crashed or timed out, no results: {where}\n" in done.stdout
    assert re.search(r"^[123] passed, 1 failed, ", done.stdout.splitlines()[-1])


@pytest.mark.once
def test_a_run_that_crashes_after_its_last_test_exits_with_1(tiny, edit):
    path = tiny / "tests" / "test_tiny.py"
    edit(path, "import atexit, os\natexit.register(os._exit, 9)\ndef test(): pass\n")
    done = run(tiny, "test", "tiny")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == [
        "A run failed although its tests did not: see above.",
        "1 passed, 0 failed, 0 skipped",
    ]


def test_errors_and_unfinished_results_count_as_failures(tmp_path, capsys):
    files = {
        "good.xml": "<s><testcase/><testcase><failure/></testcase>"
        "<testcase><error/></testcase>"
        '<testcase><skipped message="no X">at a.py:3</skipped></testcase>'
        '<testcase><skipped message="collection skipped">'
        "('a.py', 3, 'no Y')</skipped></testcase></s>",
        "unfinished.xml": "<s><testcase/>",
        "empty.xml": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    results = [tmp_path / name for name in [*files, "missing.xml"]]
    reasons = collections.Counter({"no X": 1, "no Y": 1})
    assert load(ROOT / "run.py").count(results) == (1, 5, reasons)
    named = re.findall("no results: (.*)", capsys.readouterr().out)
    assert named == ["unfinished", "empty", "missing"]


@pytest.mark.once
def test_pytest_itself_writes_results_that_are_counted_right(tmp_path):
    module = tmp_path / "test_one.py"
    module.write_text(
        "import pytest\n"
        "@pytest.fixture\n"
        "def broken():\n"
        "    raise OSError\n"
        "def test_error(broken): pass\n"
        "def test_pass(): pass\n"
        "@pytest.mark.skipif(True, reason='no Z')\n"
        "def test_skip(): pass\n"
    )
    (tmp_path / "test_two.py").write_text("import pytest; pytest.importorskip('no_Y')")
    xml = tmp_path / "x.xml"
    command = [sys.executable, "-m", "pytest", "--rootdir", tmp_path, "--junitxml", xml]
    env = environment()
    subprocess.run(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    passed, failed, skipped = load(ROOT / "run.py").count([xml])
    assert (passed, failed) == (1, 1)
    assert dict(skipped) == {
        "no Z": 1,
        "Skipped: could not import 'no_Y': No module named 'no_Y'": 1,
    }


def test_sanitize_runs_the_chapters_under_the_sanitizers(tiny, edit):
    compiler = shutil.which("cc") or shutil.which("gcc") or pytest.skip("needs cc")
    where = [compiler, "-print-file-name=libasan.so"]
    if not os.path.isabs(subprocess.check_output(where, text=True)):
        pytest.skip("needs the AddressSanitizer of gcc")
    edit(
        tiny / "tests" / "test_tiny.py",
        "import os, pathlib, subprocess, sys, sysconfig, tiny\n"
        "def test_inherited():\n"
        "    code = 'import tiny, ctypes; ctypes.CDLL(None).__asan_init'\n"
        "    subprocess.run([sys.executable, '-c', code], check=True)\n"
        "def test_python_allocates_where_the_sanitizer_sees_it():\n"
        "    if not sysconfig.get_config_var('Py_GIL_DISABLED'):\n"
        "        assert os.environ['PYTHONMALLOC'] == 'malloc'\n"
        "def test_our_code_is_instrumented():\n"
        "    assert b'__asan_' in pathlib.Path(tiny.__file__).read_bytes()\n",
    )
    done = run(tiny, "test", "--sanitize", "tiny")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "3 passed, 0 failed, 0 skipped"


# python, weave, break, take -------------------------------------------------


def test_python_imports_the_chapters_and_passes_on_its_exit_status(tiny):
    done = run(tiny, "python", "-c", "import tiny, small; raise SystemExit(7)")
    assert done.returncode == 7, done.stderr


@pytest.mark.once
def test_python_reads_a_program_from_its_standard_input(tiny):
    done = subprocess.run(
        [sys.executable, tiny / "run.py", "python"],
        input="import tiny; print(tiny.__name__)",
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (done.returncode, done.stdout) == (0, "tiny\n"), done.stderr


@pytest.mark.once
def test_what_the_users_environment_says_of_python_does_not_matter(tiny, tmp_path):
    (tmp_path / "tiny.py").write_text("raise OSError('a foreign module')")
    (tmp_path / "pytest.py").write_text("raise OSError('a foreign module')")
    foreign = {"PYTHONPATH": tmp_path, "VIRTUAL_ENV": tmp_path}
    code = "import os, sys, tiny; print(sys.prefix, os.environ['VIRTUAL_ENV'])"
    done = run(tiny, "python", "-c", code, **foreign)
    prefix = load(tiny / "run.py").BIN.parent
    assert done.stdout == f"{prefix} {prefix}\n", done.stderr
    assert run(tiny, "test", "tiny", **foreign).returncode == 0


@pytest.mark.once
@pytest.mark.parametrize(
    ("command", "tool"),
    [("weave", "weave.py"), ("break", "breaks.py"), ("take", "take.py")],
)
def test_a_tool_gets_the_arguments_and_the_users_folder(tiny, tmp_path, command, tool):
    done = run(tiny, command, "tiny", "--name", "x y", cwd=tmp_path)
    ninja = load(tiny / "run.py").BIN / "ninja"
    words = [tool, "tiny", "--name", "x y"]
    assert done.stdout == f"{words} {tmp_path}\n{ninja}\n", done.stderr
    assert done.returncode == 7
