"""Each deliberate mistake in chapters/*/break is noticed, as its diff says."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("patch_ng", reason="patch-ng, which makes the mistakes")
import breaks

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
DIFFS = sorted(ROOT.glob("chapters/*/break/*.diff"))

TINY_C = """\
#include <Python.h>

static PyObject *
tiny_answer(PyObject *Py_UNUSED(module), PyObject *value)
{
    return Py_NewRef(value);
}

static PyMethodDef tiny_methods[] = {
    {"answer", tiny_answer, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef tiny_module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "tiny",
    .m_methods = tiny_methods,
};

PyMODINIT_FUNC
PyInit_tiny(void)
{
    return PyModule_Create(&tiny_module);
}
"""

TINY_TEST = """\
import pytest
import tiny

def test_answer():
    assert tiny.answer([1]) == [1]

def test_nothing():
    pass

def test_skipped():
    pytest.skip("not on this machine")
"""

RIGHT = "    return Py_NewRef(value);"


def make_diff(test, shows, wrong, right=RIGHT, line=3):
    """Return a diff of tiny.c that puts the line `wrong` for `right`."""
    return f"""\
Mistake: answer() is wrong.
Test: {test}
Shows: {shows}

--- a/chapters/01_tiny/tiny.c
+++ b/chapters/01_tiny/tiny.c
@@ -{line},5 +{line},5 @@
 static PyObject *
 tiny_answer(PyObject *Py_UNUSED(module), PyObject *value)
 {{
-{right}
+{wrong}
 }}
"""


@pytest.fixture
def tiny(tmp_path):
    """A repository with one small chapter."""
    root = tmp_path / "tiny"
    (root / "chapters/01_tiny/break").mkdir(parents=True)
    (root / "common").mkdir()
    (root / "tests").mkdir()
    (root / "chapters/01_tiny/tiny.c").write_text(TINY_C)
    (root / "tests/test_tiny.py").write_text(TINY_TEST)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-q'\n")
    return root


@pytest.fixture
def show(tiny, tmp_path, monkeypatch, capsys):
    """What `run.py break` does with a diff: (exit status, last line, all lines)."""
    monkeypatch.setattr(breaks, "ROOT", tiny)

    def show(*diff, **changes):
        path = tiny / "chapters/01_tiny/break/wrong.diff"
        path.write_text(make_diff(*diff, **changes))
        status = breaks.main(["tiny", "wrong"])
        output, error = capsys.readouterr()
        return status, (error or output).rstrip().splitlines()[-1], output + error

    return show


def skip_without_asan(shows):
    """Skip the test if it takes an AddressSanitizer that is not there."""
    if shows == "AddressSanitizer":
        try:
            breaks.sanitizer_environment()
        except RuntimeError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("diff", DIFFS, ids=lambda path: path.stem)
def test_the_named_test_notices_the_mistake(diff, tmp_path):
    chapter = diff.parent.parent.name[3:]
    found = breaks.find_break(ROOT, chapter, diff.stem)
    skip_without_asan(found.shows)
    breaks.apply_break(ROOT, chapter, diff.stem, tmp_path)
    how, output = breaks.run_tests(tmp_path, chapter, found.shows, found.test)
    if how == "skip":
        pytest.skip(f"{found.test} is skipped here")
    assert how == found.shows, output


@pytest.mark.parametrize("command", ["git apply", "patch -p1"])
@pytest.mark.parametrize("diff", DIFFS, ids=lambda path: path.stem)
def test_usual_tools_apply_the_diff_too(command, diff, tmp_path):
    tool, option = command.split()
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    chapter = diff.parent.parent.name[3:]
    ours = breaks.apply_break(ROOT, chapter, diff.stem, tmp_path / "ours")
    theirs = tmp_path / "theirs"
    for part in "chapters", "common":
        shutil.copytree(ROOT / part, theirs / part)
    with diff.open() as stdin:
        subprocess.run([tool, option], cwd=theirs, stdin=stdin, check=True)
    for path in [*theirs.rglob("*.c"), *theirs.rglob("*.h")]:
        same = path.relative_to(theirs)
        assert path.read_text() == (ours / same).read_text(), same


@pytest.mark.parametrize(
    ("shows", "wrong"),
    [
        ("assertion", "    return Py_NewRef(Py_None);"),
        ("crash", "    Py_FatalError(Py_TYPE(value)->tp_name);"),
        ("time-out", "    for (volatile int i = 1; i;) {} return value;"),
        (
            "AddressSanitizer",
            "    int *p = malloc(4); free(p); return PyLong_FromLong(*p);",
        ),
    ],
)
def test_a_mistake_that_shows_as_declared_is_a_success(shows, wrong, show, monkeypatch):
    skip_without_asan(shows)
    monkeypatch.setitem(breaks.LIMITS, "time-out", 1)
    status, last, output = show("test_answer", shows, wrong)
    assert status == 0, output
    assert last == f"test_answer has noticed: {shows}, as the diff says."
    assert f"+{wrong}\n" in output
    assert "site-packages" not in output


def test_a_mistake_that_shows_otherwise_is_a_failure(show):
    status, last, _ = show("test_answer", "assertion", "    abort();")
    assert status == 1
    assert last.endswith("has not noticed as it should: crash, not assertion.")


def test_a_named_test_that_passes_is_a_failure_and_the_others_run(show):
    wrong = "    return Py_NewRef(Py_None);"
    status, last, output = show("test_nothing", "assertion", wrong)
    assert status == 1
    assert last.endswith("has not noticed as it should: pass, not assertion.")
    assert "assert None == [1]" in output


def test_a_named_test_that_is_skipped_is_a_failure(show):
    wrong = "    return Py_NewRef(Py_None);"
    status, last, _ = show("test_skipped", "assertion", wrong)
    assert status == 1
    assert last.endswith("has not noticed as it should: skip, not assertion.")


def test_a_named_test_that_does_not_exist_is_a_failure(show):
    wrong = "    return Py_NewRef(Py_None);"
    status, last, _ = show("test_anser", "assertion", wrong)
    assert status == 1
    assert last.endswith("as it should: unknown test, not assertion.")


def test_a_mistake_that_does_not_compile_shows_what_the_compiler_says(show):
    status, _, output = show("test_answer", "assertion", "    return no_such;")
    assert status == 2
    assert "tiny.c does not compile" in output
    assert "no_such" in output


def test_a_diff_for_another_text_does_not_apply(show):
    status, _, output = show("test_answer", "assertion", "", right="    return 0;")
    assert status == 2
    assert "wrong.diff does not apply to the sources as they are now" in output
    assert "doesn't match source file at line 6" in output


def test_a_diff_for_another_line_does_not_apply(show):
    status, _, output = show("test_answer", "assertion", "", line=4)
    assert status == 2
    assert "wrong.diff does not apply to the sources as they are now" in output


def test_a_diff_that_is_cut_off_does_not_apply(tiny, tmp_path):
    text = make_diff("test_answer", "assertion", "    return NULL;")
    diff = tiny / "chapters/01_tiny/break/wrong.diff"
    diff.write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"wrong\.diff does not apply"):
        breaks.apply_break(tiny, "tiny", "wrong", tmp_path / "copy")


def test_a_diff_that_changes_nothing_is_an_error(show):
    status, last, _ = show("test_answer", "assertion", RIGHT)
    assert (status, last) == (2, "wrong.diff changes nothing")


@pytest.mark.parametrize("missing", ["Mistake: ", "Test: ", "Shows: "])
def test_a_diff_without_its_three_lines_is_an_error(missing, tiny):
    diff = tiny / "chapters/01_tiny/break/wrong.diff"
    text = make_diff("test_answer", "assertion", "    return NULL;")
    diff.write_text(text.replace(missing, ""))
    with pytest.raises(ValueError, match=r"wrong\.diff must begin with the lines"):
        breaks.find_breaks(tiny, "tiny")


def test_a_diff_shows_in_one_of_the_four_ways(show):
    status, _, output = show("test_answer", "surprise", "    return NULL;")
    assert status == 2
    assert "assertion | crash | time-out | AddressSanitizer" in output


def test_the_checkout_stays_as_it_is(show, tiny):
    before = {path: path.read_bytes() for path in tiny.rglob("*.[ch]")}
    show("test_answer", "assertion", "    return Py_NewRef(Py_None);")
    assert {path: path.read_bytes() for path in tiny.rglob("*.[ch]")} == before
    assert not list(tiny.rglob("*.so"))


def test_a_chapter_alone_lists_its_mistakes(show, capsys):
    show("test_answer", "assertion", RIGHT)
    assert breaks.main(["tiny"]) == 0
    out = capsys.readouterr().out
    assert out == "wrong: answer() is wrong.\n    assertion in test_answer\n"


def test_an_unknown_name_lists_the_mistakes(show, capsys):
    show("test_answer", "assertion", RIGHT)
    assert breaks.main(["tiny", "wrng"]) == 2
    error = capsys.readouterr().err
    assert error == "tiny has no break 'wrng'; it has\n  wrong: answer() is wrong.\n"


def test_an_unknown_chapter_lists_the_chapters(show, capsys):
    assert breaks.main(["tny", "wrong"]) == 2
    assert capsys.readouterr().err == "no chapter 'tny'; there is: tiny\n"
