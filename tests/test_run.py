"""run.py: its commands, what it says when something is missing, what it counts.

Most tests drive the real run.py in a small checkout of two tiny chapters, with an
environment lent by the one that runs these tests, so that none needs the network.
"""

import ast
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from collections import Counter
from pathlib import Path

import pytest
import suite
import tour

# .ci/run itself builds, tests and tours with each Python that it finds.
pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ["01_tiny", "02_small"]
FIRST = "chapters/01_tiny"

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
PyMODINIT_FUNC PyInit_STEM(void) { return PyModuleDef_Init(&module); }
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
import tiny, small

def test_passes():
    pass
"""
GROUPS = """\
[dependency-groups]
build = ["{}"]
dev = [{{ include-group = "build" }}]
"""
TOOL = """\
import os, sys
print([os.path.basename(sys.argv[0]), *sys.argv[1:]], os.getcwd())
sys.exit(7)
"""


def environment(**changes):
    """Return os.environ with changes, without what steers the outer test run."""
    foreign = re.compile("(PYTEST|PIP|MESON|MALLOC|PYTHON)_?|(CC|CFLAGS|LDFLAGS)$")
    env = {key: value for key, value in os.environ.items() if not foreign.match(key)}
    env["PIP_CONFIG_FILE"] = os.devnull
    env.update({key: str(value) for key, value in changes.items()})
    return env


def command(checkout, *words, after=""):
    """Return the command that runs checkout/run.py, after a line of code."""
    program = checkout / "run.py"
    start = f"sys.argv = {[str(program), *words]}\nrunpy.run_path({str(program)!r}, "
    start = f"import runpy, sys\n{after}\n{start} run_name='__main__')"
    return [sys.executable, *(["-c", start] if after else [program, *words])]


def run(checkout, *words, cwd="/", after="", **env):
    """Run checkout/run.py with words to its end, and keep its output."""
    return subprocess.run(
        command(checkout, *words, after=after),
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def ask(checkout, expression, before=""):
    """Return the value of an expression that may use the checkout's run.py."""
    code = f"import sys\nsys.path.insert(0, {str(checkout)!r})\n{before}\nimport run"
    words = [sys.executable, "-c", f"{code}\nprint({expression})"]
    return subprocess.check_output(words, env=environment(), text=True).strip()


def stopped(done):
    """Return the lines of a run that had to stop: status 1, no traceback."""
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def lend(path):
    """Make a virtual environment that sees the packages of ours, pip among them."""
    venv.create(path, symlinks=True, with_pip=False)
    (site,) = path.glob("lib/python*/site-packages")
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "lent.pth").write_text("\n".join(sorted(lent)))


@pytest.fixture
def bare(tmp_path):
    """Return a checkout in which nothing was made yet."""
    return copy_sources(tmp_path)


def copy_sources(checkout):
    """Copy what run.py consists of to checkout, with stand-ins for other tools."""
    for folder in ["common", "tests", "tools", *(f"chapters/{n}" for n in CHAPTERS)]:
        (checkout / folder).mkdir(parents=True)
    sources = "run.py pyproject.toml tools/missing.py tools/tour.py tools/suite.py"
    for name in sources.split():
        shutil.copy(ROOT / name, checkout / name)
    for name in ("weave.py", "breaks.py", "take.py"):
        (checkout / "tools" / name).write_text(TOOL)
    return checkout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Return a checkout that works, with its environment but nothing built."""
    checkout = copy_sources(tmp_path_factory.mktemp("a checkout"))
    for folder in CHAPTERS:
        stem = folder[3:]
        for name, text in [
            (f"chapters/{folder}/{stem}.c", C_SOURCE),
            (f"chapters/{folder}/meson.build", C_BUILD),
            (f"chapters/{folder}/demo.py", DEMO),
            (f"tests/test_{stem}.py", CHAPTER_TEST),
        ]:
            (checkout / name).write_text(text.replace("STEM", stem))
    (checkout / "tests" / "test_house.py").write_text(HOUSE_TEST)
    build = (ROOT / "meson.build").read_text()
    build = re.sub(r"(?<=foreach chapter : )\[[^]]*\]", str(CHAPTERS), build)
    (checkout / "meson.build").write_text(build)

    environment = Path(ask(checkout, "run.VENV"))
    lend(environment)
    for name in ("meson", "ninja"):
        (environment / "bin" / name).symlink_to(shutil.which(name))
    (environment / "stamp").write_text(ask(checkout, "run.requirements()"))
    return checkout


@pytest.fixture
def edit(tiny):
    """Return a function that changes a file of tiny for the time of one test."""
    before = {}

    def change(name, text):
        path = tiny / name
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


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_without_a_command_it_lists_its_commands(bare, words):
    done = run(bare, *words)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("tour", "test", "python", "bench", "weave", "break", "take"):
        assert re.search(rf"^  {name}\b.*  \w", done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_what_it_does_not_know_gets_the_usage_on_stderr(bare):
    done = run(bare, "sing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: python3 run.py COMMAND" in done.stderr


@pytest.mark.parametrize("word", ["test", "tour"])
def test_an_unknown_chapter_lists_the_chapters_and_installs_nothing(bare, word):
    lines = stopped(run(bare, word, "tiny", "timy"))
    assert lines == ["There is no chapter timy.", "    There are: tiny, small"]
    assert not (bare / "build").exists()


def test_meson_builds_the_chapters_that_have_a_folder():
    text = (ROOT / "meson.build").read_text()
    listed = re.search(r"foreach chapter : (\[.*?\])", text, re.DOTALL)[1]
    folders = sorted(path.name for path in ROOT.glob("chapters/[0-9]*"))
    assert ast.literal_eval(listed) == folders


# What is missing ------------------------------------------------------------


def test_an_old_python_is_told_of_a_newer_one_on_path(bare, programs):
    old = "sys.version_info = (3, 10, 13); sys.version = '3.10.13 (old)'"
    path = programs(**{"python3.11": "exit 127", "python3.12": "exit 0"})
    lines = stopped(run(bare, "test", "tiny", after=old, PATH=path))
    assert lines[0] == "This is cpython 3.10.13, but CPython 3.11 or newer is needed."
    assert re.fullmatch("    python3.12 .*/run.py test tiny", lines[1])
    (path / "python3.12").unlink()
    lines = stopped(run(bare, "test", "tiny", after=old, PATH=path))
    assert "python.org" in lines[1]


def test_old_pythons_come_as_far_as_saying_that_they_are_old(bare):
    for name in ("run.py", "tools/missing.py"):
        ast.parse((ROOT / name).read_text(), feature_version=(3, 7))
    # OLD_PYTHONS is set by .ci/run; a version manager's stand-in may refuse to run.
    names = os.environ.get("OLD_PYTHONS", "python3.8 python3.10").split()
    found = [n for n in names if subprocess.getstatusoutput(f"{n} -c 0")[0] == 0]
    for python in found:
        old = [python, bare / "run.py", "tour"]
        done = subprocess.run(old, capture_output=True, text=True, env=environment())
        assert "3.11 or newer is needed" in stopped(done)[0]
    if not found:
        pytest.skip("needs a Python from 3.8 to 3.10")


@pytest.mark.parametrize(
    ("lack", "says"),
    [
        ("importlib.util.find_spec", "Python cannot make environments: no ensurepip."),
        ("sysconfig.get_path", "Python has no C headers: no /nowhere/Python.h."),
    ],
)
def test_a_python_without_its_parts_is_told_what_to_install(bare, programs, lack, says):
    path = programs(apt_get="exit 1")
    nothing = "None" if "spec" in lack else "'/nowhere'"
    lack = f"import importlib.util, sysconfig; {lack} = lambda name: {nothing}"
    python = f"python3.{sys.version_info[1]}"
    for prefix, advice in [
        ("/usr", f"apt-get install {python}-venv {python}-dev gcc"),
        ("/opt", "Install a C compiler, and a Python that comes with ensurepip"),
    ]:
        after = f"{lack}; sys.base_prefix = {prefix!r}"
        lines = stopped(run(bare, "tour", after=after, PATH=path))
        assert lines[0] == f"This {says}"
        assert advice in lines[1]


@pytest.mark.parametrize(
    ("scripts", "cc", "says"),
    [
        ({}, "", "There is no C compiler: no cc."),
        ({}, "gcc-0 -m64", "There is no C compiler: no gcc-0."),
        (
            {"cc": "echo cannot find crti.o >&2; exit 1"},
            "",
            "The C compiler does not work:\n    cannot find crti.o",
        ),
    ],
    ids=["none", "CC", "broken"],
)
def test_a_missing_compiler_is_told_what_to_install(bare, programs, scripts, cc, says):
    path = programs(apt_get="exit 1", **scripts)
    lines = stopped(run(bare, "test", PATH=path, CC=cc))
    assert "\n".join(lines[:-1]) == says
    assert re.fullmatch(r"    (sudo )?apt-get install .*\bgcc\b.*", lines[-1])


def test_a_checkout_that_cannot_be_written_is_told_how_to_go_on(bare):
    refuse = "import os\ndef mkdir(*words): raise PermissionError(13, 'No', 'there')"
    lines = stopped(run(bare, "tour", after=f"{refuse}\nos.mkdir = mkdir"))
    assert lines[0] == "Cannot write to there: No."
    assert lines[1].startswith(f"    cp -r {bare} ~")


def test_a_first_run_without_network_says_so_and_quotes_pip(bare):
    environment = Path(ask(bare, "run.VENV"))
    lend(environment)
    (bare / "pyproject.toml").write_text(GROUPS.format("await-in-c-needs-this"))
    # So that `python -m venv` succeeds at once, and what we have lent is kept.
    after = "import shutil; shutil.rmtree = lambda *words, **more: None"
    after += f"; sys._base_executable = {shutil.which('true')!r}"
    index = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": 1}
    done = run(bare, "tour", after=after, **index)
    text = "\n".join(stopped(done))
    progress, _, quoted = text.partition("\npip failed. The first run needs ")
    assert "\n    WARNING: Retrying" in progress  # no silent minute
    assert "\n    ERROR: " in quoted
    assert not (environment / "stamp").exists()


# What it makes --------------------------------------------------------------


def test_an_environment_that_was_left_half_made_is_made_anew(bare):
    project = bare / "pyproject.toml"
    project.write_text(GROUPS.format("pip"))  # which a new environment has already
    home = Path(ask(bare, "run.HOME"))
    half_made = [home / "venv/bin/python", home / "tree/build.ninja"]
    for path in half_made:
        path.parent.mkdir(parents=True)
        path.write_text("cut off")
    # There is no meson in this environment, so that each run ends after it.
    assert "Making a Python environment in build/" in run(bare, "tour").stderr
    assert not half_made[1].exists()
    subprocess.check_call([half_made[0], "-m", "pip", "--version"], env=environment())
    assert "Making" not in run(bare, "tour").stderr
    project.write_text(GROUPS.format("more"))
    assert "no-compiler-now" in run(bare, "tour", CC="no-compiler-now").stderr


def test_each_python_has_an_environment_of_its_own(bare):
    other = ask(bare, "run.HOME", "sys.base_prefix = '/another'")
    assert other != ask(bare, "run.HOME")
    assert sys.version.split()[0] in ask(bare, "run.HOME.name")


def test_a_build_that_was_left_half_made_is_made_anew(tiny):
    assert run(tiny, "tour").returncode == 0
    tree = Path(ask(tiny, "run.HOME")) / "tree"
    (tree / "stamp").unlink()
    (tree / "meson-private" / "coredata.dat").write_text("cut off")
    (tree / "build.ninja").write_text("cut off")
    done = run(tiny, "tour")
    assert done.returncode == 0, done.stderr
    assert "Setting up build/" in done.stderr


def test_what_was_edited_is_built_again_and_all_with_another_compiler(tiny, edit):
    run(tiny, "tour")
    name = f"{FIRST}/tiny.c"
    text = (tiny / name).read_text()
    edit(name, text.replace('"tiny"', '"tiny", .m_doc = "grown"'))
    done = run(tiny, "python", "-c", "import tiny; print(tiny.__doc__)")
    assert done.stdout == "grown\n"
    assert "Compiling C object chapters/01_tiny" in done.stderr
    assert "small.c" not in done.stderr
    assert "Setting up" not in done.stderr
    assert "Setting up" in run(tiny, "tour", CC=shutil.which("cc")).stderr


def test_an_error_in_c_shows_what_the_compiler_says(tiny, edit):
    edit(f"{FIRST}/tiny.c", C_SOURCE.replace("STEM", "tiny") + "static int unused;\n")
    lines = stopped(run(tiny, "test", "tiny"))
    assert any(re.search("unused.*-Werror", line) for line in lines)


def test_a_second_run_waits_for_the_first_to_finish_its_build(tiny):
    run(tiny, "tour")
    with open(ask(tiny, "run.HOME") + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            command(tiny, "tour"),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as second:
            assert second.stderr.readline().startswith("Waiting for another run.py")
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert second.stderr.read() == ""
    assert second.returncode == 0


def test_meson_alone_builds_and_tests_one_chapter(tiny, tmp_path):
    programs = Path(ask(tiny, "run.PYTHON")).parent
    env = environment(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
    for words in (["setup", tmp_path], ["test", "-C", tmp_path, "--suite", "tiny"]):
        meson = ["meson", *words]
        done = subprocess.run(meson, cwd=tiny, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    assert len([*tmp_path.rglob("tiny.*.so")]) == 1
    assert not [*tmp_path.rglob("small.*.so")]


# tour -----------------------------------------------------------------------


def test_tour_plays_each_demo_and_a_second_one_starts_within_two_seconds(tiny):
    run(tiny, "tour")
    start = time.monotonic()
    done = run(tiny, "tour", cwd=tiny / "common")
    assert time.monotonic() - start < 2
    assert (done.returncode, done.stderr) == (0, "")
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
    assert run(tiny, "tour", "small").stdout == done.stdout[done.stdout.index("\n2.") :]


@pytest.mark.parametrize(
    ("terminal", "no_color", "bold"),
    [(True, "", True), (True, "1", False), (False, "", False)],
)
def test_titles_are_bold_on_a_terminal_only(
    tmp_path, monkeypatch, capsys, terminal, no_color, bold
):
    (tmp_path / "07_tiny").mkdir()
    (tmp_path / "07_tiny" / "demo.py").write_text('"""Title\n\nIdea.\n"""\n')
    monkeypatch.setattr(tour, "chapters", lambda: {"tiny": tmp_path / "07_tiny"})
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert tour.main("tiny") == 0
    shown = capsys.readouterr().out
    assert ("\033[1m7. Title\033[0m" if bold else "\n7. Title\n") in shown
    assert bold == ("\033" in shown)


def test_tour_goes_on_after_a_demo_that_fails_and_exits_with_1(tiny, edit):
    demo = '"""Title\n\nIdea.\n"""\n\nprint("half", flush=True)\nraise OSError(5)'
    edit(f"{FIRST}/demo.py", demo)
    done = run(tiny, "tour")
    assert done.returncode == 1
    assert "    half\n" in done.stdout
    assert "it is small" in done.stdout
    assert re.search("OSError: 5\n.*01_tiny/demo.py failed, exit status 1", done.stderr)


def test_a_tour_into_a_pipe_that_is_closed_ends_without_a_word(tiny):
    run(tiny, "tour")
    reader, writer = os.pipe()
    os.close(reader)
    words, env = command(tiny, "tour"), environment()
    with open(writer) as pipe:
        done = subprocess.run(words, stdout=pipe, stderr=-1, env=env, timeout=100)
    assert done.stderr == b""


def test_ctrl_c_ends_a_tour_without_a_traceback(tiny, edit):
    demo = "import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\n"
    edit(f"{FIRST}/demo.py", f'"""Title\n\nIdea.\n"""\n{demo}time.sleep(1)\n')
    run(tiny, "python", "-c", "")
    done = run(tiny, "tour")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


# test -----------------------------------------------------------------------


def test_test_runs_everything_and_counts_it_in_its_last_line(tiny):
    done = run(tiny, "test")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-2:] == [
        "2 skipped: no moon in the sky",
        "3 passed, 0 failed, 2 skipped",
    ]


def test_test_of_a_chapter_runs_that_chapter_alone(tiny):
    done = run(tiny, "test", "tiny", "tiny")
    assert done.stdout.endswith("\n1 passed, 0 failed, 1 skipped\n")


def test_failures_and_crashes_are_counted_and_old_results_are_not(tiny, edit):
    run(tiny, "tour")
    tree = Path(ask(tiny, "run.HOME")) / "tree"
    for name in ("tiny", "house"):
        (tree / f"{name}.xml").write_text("<s>" + "<testcase/>" * 50 + "</s>")
    crash = "import os\ndef test_crashes():\n    os.abort()\n"
    edit("tests/test_tiny.py", crash)
    edit("tests/test_house.py", crash)
    edit("tests/test_small.py", "def test_fails():\n    assert 0\n")
    done = run(tiny, "test")
    assert done.returncode == 1
    for name in ("tiny", "house"):
        assert f"\ncrashed or timed out, no results: {name}\n" in done.stdout
    assert done.stdout.endswith("\n0 passed, 3 failed, 0 skipped\n")


def test_a_run_that_crashes_after_its_last_test_exits_with_1(tiny, edit):
    crash = "import atexit, os\natexit.register(os._exit, 9)\ndef test(): pass\n"
    edit("tests/test_tiny.py", crash)
    done = run(tiny, "test", "tiny")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == [
        "A run failed although its tests did not: see above.",
        "1 passed, 0 failed, 0 skipped",
    ]


def test_what_pytest_writes_is_counted_right(tmp_path, capsys):
    (tmp_path / "test_one.py").write_text(
        "import pytest\n"
        "@pytest.fixture\n"
        "def broken():\n"
        "    raise OSError\n"
        "def test_error(broken): pass\n"
        "def test_fail(): assert 0\n"
        "def test_pass(): pass\n"
        "@pytest.mark.skipif(True, reason='no Z')\n"
        "def test_skip(): pass\n"
    )
    (tmp_path / "test_two.py").write_text("import pytest; pytest.importorskip('no_Y')")
    xml, cut_off = tmp_path / "x.xml", tmp_path / "cut_off.xml"
    words = [sys.executable, "-m", "pytest", "--rootdir", tmp_path, "--junitxml", xml]
    env = environment()
    subprocess.run(words, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    cut_off.write_text(xml.read_text()[:-20])
    passed, failed, skipped = suite.count([xml, cut_off, tmp_path / "missing.xml"])
    assert (passed, failed) == (1, 4)
    no_y = "Skipped: could not import 'no_Y': No module named 'no_Y'"
    assert skipped == Counter({"no Z": 1, no_y: 1})
    named = re.findall("no results: (.*)", capsys.readouterr().out)
    assert named == ["cut_off", "missing"]


def test_sanitize_runs_the_chapters_under_the_sanitizers(tiny, edit):
    where = ["cc", "-print-file-name=libasan.so"]
    if not os.path.isabs(subprocess.check_output(where, text=True)):
        pytest.skip("needs the AddressSanitizer of gcc")
    code = "import tiny, ctypes; ctypes.CDLL(None).__asan_init"
    edit(
        "tests/test_tiny.py",
        "import pathlib, subprocess, sys, tiny\n"
        "def test_children_inherit_it():\n"
        f"    subprocess.run([sys.executable, '-c', {code!r}], check=True)\n"
        "def test_our_code_is_instrumented():\n"
        "    assert b'__asan_' in pathlib.Path(tiny.__file__).read_bytes()\n",
    )
    done = run(tiny, "test", "--sanitize", "tiny")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("\n2 passed, 0 failed, 0 skipped\n")


# python, weave, break, take -------------------------------------------------


def test_python_is_ours_whatever_the_users_environment_says(tiny, tmp_path):
    (tmp_path / "tiny.py").write_text("raise OSError('a foreign module')")
    (tmp_path / "pytest.py").write_text("raise OSError('a foreign module')")
    foreign = {"PYTHONPATH": tmp_path, "VIRTUAL_ENV": tmp_path}
    code = "import sys, tiny, small; print(sys.prefix); raise SystemExit(7)"
    done = run(tiny, "python", "-c", code, **foreign)
    assert done.stdout == ask(tiny, "run.VENV") + "\n", done.stderr
    assert done.returncode == 7
    assert run(tiny, "test", "tiny", **foreign).returncode == 0


@pytest.mark.parametrize(("word", "tool"), [("weave", "weave"), ("break", "breaks")])
def test_a_tool_gets_the_arguments_and_the_users_folder(tiny, tmp_path, word, tool):
    done = run(tiny, word, "tiny", "--name", "x y", cwd=tmp_path)
    words = [f"{tool}.py", "tiny", "--name", "x y"]
    assert (done.returncode, done.stdout) == (7, f"{words} {tmp_path}\n"), done.stderr


def test_take_needs_no_environment(bare, tmp_path):
    done = run(bare, "take", "tiny", "x y", cwd=tmp_path, PATH="/nowhere")
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"{['take.py', 'tiny', 'x y']} {tmp_path}\n"
    assert not (bare / "build").exists()
