"""The weave and the checks of the book, on a tiny book that each test breaks."""

import importlib
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

for package in "cogapp", "markdown_it", "patch_ng":
    pytest.importorskip(package, reason=f"the weave needs {package}")
checks = importlib.import_module("book_checks")
session = importlib.import_module("session")
weave = importlib.import_module("weave")

TOOLS = Path(__file__).resolve().parents[1] / "tools"
C = "chapters/01_tiny/tiny.c"
H = "common/tiny.h"
MODEL = "chapters/01_tiny/model.py"
PAGE = "book/01_tiny.md"
INTRO = "book/00_introduction.md"
README = "README.md"

FILES = {
    C: """\
/* tiny.c: a tiny file. */

/// A pair

typedef struct {
    int first;
} Pair;

/// The sum

static PyObject *
pair_sum(Pair *pair)
{
    return PyLong_FromLong(pair->first);
}
""",
    H: "/* tiny.h: a tiny header. */\n",
    MODEL: '''\
"""What tiny.c does, in Python."""

### The sum
def model_sum(pair):
    if not pair:
        raise ValueError("no pair")
    return pair[0]
''',
    "chapters/01_tiny/break/one_more.diff": """\
Mistake: the sum is one too large.
Test: test_sum
Shows: assertion

--- a/chapters/01_tiny/model.py
+++ b/chapters/01_tiny/model.py
@@ -4,4 +4,4 @@
 def model_sum(pair):
     if not pair:
         raise ValueError("no pair")
-    return pair[0]
+    return pair[0] + 1
""",
    PAGE: """\
# Tiny

The struct `Pair` has a member `first`.

<!--cog show("chapters/01_tiny/tiny.c", "A pair") :-->
<!--end-->

`pair_sum` makes a `PyObject *` with `PyLong_FromLong(…)`.

<!--cog show("chapters/01_tiny/tiny.c", "The sum") :-->
<!--end-->

See [the sum](../chapters/01_tiny/tiny.c) and [the start](#tiny).

```mermaid
sequenceDiagram
    loop-->>task: a step
```

<!--cog show("chapters/01_tiny/model.py", "The sum") :-->
<!--end-->

In Python it is `model_sum`.

<!--cog repl() :-->
```pycon
>>> from model import model_sum
>>> model_sum([3])
```
<!--end-->
""",
    INTRO: "# Hello\n\nThis is what Python 3.13 prints. See [Tiny](01_tiny.md#tiny).\n",
    README: "# Readme\n",
    "run.py": "import sys\nprint(5)\nprint('building', file=sys.stderr)\n",
    "pyproject.toml": "",
    "tests/test_tiny.py": "",
}


class Book:
    """A tiny book in a folder. `edit` and `write` break it."""

    def __init__(self, root):
        self.root = root
        for name, text in FILES.items():
            self.write(name, text)

    def read(self, name=PAGE):
        return (self.root / name).read_text(encoding="utf-8")

    def write(self, name, text):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")

    def edit(self, name, old, new):
        assert old in self.read(name)
        self.write(name, self.read(name).replace(old, new, 1))

    def weave(self, check=False):
        """Return what is wrong with the pages."""
        return weave.weave(self.root, check)[1]

    def problems(self):
        """Weave, and return all that the weave and the checks find."""
        self.weave()
        blocks, found = weave.weave(self.root, check=True)
        for check in checks.CHECKS:
            found += check(self.root, blocks)
        return "\n".join(found)

    def block(self, text, call="repl()"):
        """Make the page one block of output; return its new text."""
        self.write(PAGE, f"<!--cog {call} :-->\n```pycon\n{text}\n```\n<!--end-->\n")
        assert self.weave() == []
        return self.read().partition("\n")[2].partition("\n")[2].rpartition("\n```")[0]


@pytest.fixture
def tiny(tmp_path):
    return Book(tmp_path)


@pytest.fixture
def woven(tiny):
    assert tiny.weave() == []
    return tiny


# What a page can show.


def test_weaving_writes_the_code_and_the_output_into_the_page(woven):
    page = woven.read()
    caption = f"<sub>[{C}](../{C}), “A pair”</sub>\n<!--end-->"
    assert f"typedef struct {{\n    int first;\n}} Pair;\n```\n{caption}" in page
    assert "```python\ndef model_sum(pair):" in page
    assert "    return pair[0]\n```\n" in page
    assert ">>> model_sum([3])\n3\n```" in page
    assert "loop-->>task" in page
    assert woven.problems() == ""


def test_weaving_again_changes_nothing_and_counts(woven, capsys):
    before = woven.read()
    capsys.readouterr()
    assert (woven.weave(), woven.read()) == ([], before)
    assert capsys.readouterr().out == (
        f"woven on Python {weave.VERSION}: 3 listings and 1 output blocks checked, "
        "0 left to other versions\n"
    )


def test_a_listing_and_a_session_can_be_those_of_a_break(tiny, monkeypatch):
    monkeypatch.setattr(weave.breaks, "build_break", lambda *_: None)
    call = 'show("chapters/01_tiny/model.py", "The sum", broken="one_more")'
    text = '<!--cog repl(broken="one_more") :-->\n>>> import model\n'
    text += ">>> model.model_sum([3])\n>>> model.model_sum(3)\n<!--end-->\n"
    tiny.write(PAGE, f"{tiny.read()}\n<!--cog {call} :-->\n<!--end-->\n{text}")
    assert tiny.problems() == ""
    assert "    return pair[0] + 1\n```" in tiny.read()
    assert ">>> model_sum([3])\n3\n" in tiny.read()
    assert ">>> model.model_sum([3])\n4\n" in tiny.read()
    assert '  File "chapters/01_tiny/model.py", line 7, in model_sum' in tiny.read()


def test_a_command_is_shown_with_what_it_prints_to_stdout(tiny):
    text = tiny.block("stale", "shell('python3 run.py')")
    assert text == "$ python3 run.py\n5"


def test_a_session_prints_as_the_interpreter_does_and_the_input_stays(tiny):
    text = """\
>>> 6 * 7
stale
>>> x = None
>>> def f(n):
...     print("down", n)
...
...     return "end"
...
>>> f(1)
>>> print("no newline", end="")
>>> (1,
...  2)
>>> x = = 1"""
    new = text.replace("stale", "42").replace("(1)", "(1)\ndown 1\n'end'")
    new = new.replace('="")', '="")\nno newline').replace(" 2)", " 2)\n(1, 2)")
    new += '\n  File "<stdin>", line 1\n    x = = 1\n        ^\n'
    assert tiny.block(text) == f"{new}SyntaxError: invalid syntax"


def test_a_traceback_has_our_frames_only_and_no_absolute_path(tiny):
    text = """\
>>> import asyncio
>>> from model import model_sum
>>> async def ask():
...     return model_sum(7)
...
>>> asyncio.run(ask())"""
    traceback = """
Traceback (most recent call last):
  File "<stdin>", line 1, in <module>
  File "<stdin>", line 2, in ask
  File "chapters/01_tiny/model.py", line 7, in model_sum
    return pair[0]
TypeError: 'int' object is not subscriptable"""
    assert tiny.block(text) == text + traceback


def test_warnings_and_what_the_garbage_collector_reports_are_printed(tiny):
    text = tiny.block("""\
>>> import asyncio
>>> async def lose():
...     asyncio.get_running_loop().create_future().set_exception(OSError(1))
...
>>> lose()
>>> 1
>>> asyncio.run(lose())""")
    never = "<stdin>:1: RuntimeWarning: coroutine 'lose' was never awaited"
    assert f">>> lose()\n<coroutine object lose at 0x…>\n>>> 1\n{never}\n1\n" in text
    future = "future: <Future finished exception=OSError(1)>\nOSError: 1"
    assert text.endswith(f"Future exception was never retrieved\n{future}")


def test_names_last_for_the_page_and_no_longer(tiny):
    block = "<!--cog repl() :-->\n```pycon\n{}\n```\n<!--end-->\n"
    tiny.write(PAGE, block.format(">>> x = 41") + block.format(">>> x + 1"))
    tiny.write(INTRO, block.format(">>> x"))
    assert tiny.weave() == []
    assert ">>> x + 1\n42\n" in tiny.read()
    assert "NameError: name 'x' is not defined" in tiny.read(INTRO)


LOCK = "threading.Lock(); x.acquire(); x.acquire()"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write the input first"),
        (">>> def f():\n...     pass", "unfinished; end it with a line `...`"),
        (">>> exit()", "ended in '>>> exit\\(\\)': it ended, exit status 0"),
        (">>> import faulthandler as f; f._sigsegv()", "Segmentation .* status -11"),
        (f">>> import threading; x = {LOCK}", "Timeout .*, exit status 1"),
    ],
)
def test_a_session_that_cannot_be_shown_says_why(tiny, monkeypatch, text, message):
    monkeypatch.setattr(session, "LIMIT", 2)
    page = f"\n<!--cog repl() :-->\n```pycon\n{text}\n```\n<!--end-->\n"
    tiny.write(PAGE, page)
    (problem,) = tiny.weave()
    assert re.fullmatch(rf"book/01_tiny.md:2: .*{message}.*", problem)
    assert tiny.read() == page


def test_what_c_prints_and_threads_left_behind_do_no_harm(tiny):
    text = ">>> import os, threading, time\n>>> wait = lambda: time.sleep(600)\n"
    text += ">>> threading.Thread(target=wait).start()\n>>> os.write(1, b'from C')"
    assert tiny.block(text) == f"{text}\n6"


STDLIB = sysconfig.get_path("stdlib")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("at 0x7f0123456789>, 0x10", "at 0x…>, 0x10"),
        ('  File "/book/chapters/m.py", line 1', '  File "chapters/m.py", line 1'),
        (f'  |   File "{STDLIB}/a.py", line 1, in f\n  |     x\n  | E', "  | E"),
        ('  File "<frozen os>", line 1, in f\nE', "E"),
        ('  File "/book/build/site-packages/a.py", line 1, in f\n    x\nE', "E"),
        ("<sys>:0: RuntimeWarning: never\n", "sys:1: RuntimeWarning: never\n"),
        (f"{STDLIB}/a.py:7: MyWarning: no\n  x = 1\n", "sys:1: MyWarning: no\n"),
        ("RuntimeWarning: Enable tracemalloc to get the object …\n1", "1"),
    ],
)
def test_what_differs_between_machines_and_versions_is_not_shown(printed, shown):
    assert session.tidy(printed, Path("/book")) == shown


@pytest.mark.parametrize(
    ("call", "shown", "counted"),
    [
        ("repl(only='3.99')", ">>> 1\nstale", "0 output blocks checked, 1 left to"),
        ("shell('true', only='3.99')", ">>> 1\nstale", "0 output blocks checked, 1"),
        (f"repl(only='3 {weave.VERSION}')", ">>> 1\n1", "1 output blocks checked, 0"),
    ],
)
def test_output_of_other_versions_is_left_alone(tiny, capsys, call, shown, counted):
    assert tiny.block(">>> 1\nstale", call) == shown
    assert counted in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "old", "new", "what"),
    [
        (C, "int first", "long first", "chapters/01_tiny/tiny.c, 'A pair'"),
        (MODEL, "[0]", "[0] + 1", "session '>>> from model import model_sum'"),
        (PAGE, "\n3\n", "\n4\n", "session '>>> from model import model_sum'"),
    ],
)
def test_drift_is_shown_and_mended_by_weaving(woven, capsys, name, old, new, what):
    woven.edit(name, old, new)
    before = woven.read()
    (problem,) = woven.weave(check=True)
    assert woven.read() == before
    assert re.search(r"^-.*\n\+", problem, re.MULTILINE)
    drift, _, mend = problem.splitlines()[-1].partition(" has changed; ")
    assert drift.startswith("book/01_tiny.md: ") and what in drift
    assert mend == "run: python3 run.py weave"
    assert woven.weave() == []
    assert f"rewrote {drift}\n" in capsys.readouterr().out
    assert woven.weave(check=True) == []


def test_the_command_exits_with_0_or_1_and_advises(tiny):
    shutil.copytree(TOOLS, tiny.root / "tools")

    def run(*options):
        command = [sys.executable, tiny.root / "tools" / "weave.py", *options]
        return subprocess.run(command, capture_output=True, encoding="utf-8")

    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 listings and 1 output blocks checked, 0 left" in done.stdout
    assert run("--check").returncode == 0
    tiny.edit(C, "int", "long")
    done = run("--check")
    assert done.returncode == 1
    assert "-    int first;\n+    long first;\n" in done.stderr
    assert done.stderr.endswith("run: python3 run.py weave\n")


# Mistakes.


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (PAGE, '"A pair"', '"B"', "tiny.c has no section 'B'; it has ['A pair', "),
        (PAGE, "tiny.c", "huge.c", "huge.c has no section 'A pair'; it has []"),
        (PAGE, "show(", "shew(", "NameError: name 'shew' is not defined"),
        (PAGE, "show(", "show((", "'(' was never closed"),
        (PAGE, "<!--end-->", "", "Unexpected '<!--cog'; write <!--cog … :-->, and"),
        (C, "/// The sum", "/// A pair", "tiny.c has two sections 'A pair'; rename"),
        (PAGE, 'show("', 'shell("false ', "`false chapters/01_tiny/"),
    ],
)
def test_a_page_that_cannot_be_woven_is_named_and_left(woven, name, old, new, message):
    woven.edit(name, old, new)
    before = woven.read()
    woven.edit(INTRO, "# Hello", '<!--cog shell("true") :-->\n<!--end-->\n')
    problem = woven.weave()[0]
    assert problem.startswith("book/01_tiny.md:5: ") and message in problem
    assert len(problem.splitlines()) == 1
    assert woven.read() == before
    assert "$ true" in woven.read(INTRO)  # the other pages are woven


def test_a_block_that_cannot_be_woven_hides_no_other(woven):
    woven.edit(PAGE, '"A pair"', '"B"')
    woven.edit(C, "return", "return 0 +")
    missing, drift = woven.weave(check=True)
    assert "tiny.c has no section 'B'" in missing
    assert "'The sum' has changed; run: python3 run.py weave" in drift


FENCE = "```{}\nint x;\n```\n\nSee"


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (C, "/// The", "/// X\nint x;\n/// The", "tiny.c: “X” is not shown; give a"),
        (H, "/* ", "/* x */\n/// X\n\nint x;\n/* ", r"tiny.h: “X” is not shown; give"),
        (PAGE, '"The sum"', '"A pair"', r"“A pair” is shown at \S+:5 and \S+; remove"),
        (C, "/// A", "int x;\n\n/// A", "tiny.c: code stands above the first heading;"),
        (MODEL, "###", "x = 1\n###", "model.py: code stands above the first heading;"),
        (C, "file. */", "\n\n\n\n\n*/", "tiny.c: its opening is too long; cut it"),
        (C, "    return", "/// X\n    return", "tiny.c: “X” is not a whole function"),
        (MODEL, "    return", "### X\n    return", "model.py: “X” is not a whole func"),
        (C, "/// The", "/// X\n\n/// The", "tiny.c: “X” is not a whole function"),
        (PAGE, "See", FENCE.format("c"), "tiny.md:.*: c is written by hand; weave it"),
        (PAGE, "See", FENCE.format(""), "a fence without a language is written"),
        (README, "# Readme", "    int x;", "README.md:1: a fence without a language"),
        (PAGE, "sequenceD", "sequenced", "tiny.md:.*: GitHub draws no such diagram"),
        (PAGE, "`pair_sum`", "It", "'The sum': the prose does not name `pair_sum`; ex"),
        (PAGE, "`Pair`", "Pair", "'A pair': the prose does not name `Pair`; explain"),
        (PAGE, "`first`", "`firsts`", "'A pair': the prose does not name `first`; ex"),
        (PAGE, "`PyLong_FromLong", "`Py", "does not name `PyLong_FromLong`; explain"),
        (PAGE, "`model_sum`", "`pair_sum`", "does not name `model_sum`; explain each"),
        (
            PAGE,
            "tiny.c) and",
            "x.c) and",
            r"tiny.md:.*: the link \S+x.c leads to no file",
        ),
        (PAGE, "tiny.c) and", "tiny.c#L1) and", r"tiny.c#L1 leads to a line without"),
        (PAGE, "(#tiny)", "(#x)", r"link #x has a dead anchor; \S+ has \['tiny'\]"),
        (INTRO, "#tiny", "#x", r"introduction.md:3: the link 01_tiny.md#x has a dead"),
        (README, "# Readme", "[x](../)", "README.md:1: the link ../ leads to no file"),
        (README, "# Readme", "[x](http://x.org)", "link http://x.org leads to no file"),
        (README, "# Readme", "![x](x.png)", "README.md:1: the link x.png leads to no"),
        (INTRO, "3.13", "3", "introduction.md: say that pages show what Python 3.13"),
    ],
)
def test_a_mistake_is_found(woven, name, old, new, message):
    woven.edit(name, old, new)
    assert re.search(message, woven.problems())


@pytest.mark.once
def test_an_explanation_beside_another_listing_does_not_count(woven):
    woven.edit(PAGE, "`pair_sum`", "It")
    woven.edit(PAGE, "it is `model_sum`", "it is `model_sum`, not `pair_sum`")
    assert "does not name `pair_sum`" in woven.problems()


@pytest.mark.once
def test_anchors_are_made_as_github_makes_them(tiny):
    tiny.write(PAGE, "# A & B: `__await__`, [C](x)!\n\n## Two 1\n\n## Two 1\n")
    found = checks.anchors(tiny.root / PAGE)
    assert set(found) == {"a--b-__await__-c", "two-1", "two-1-1"}


@pytest.mark.once
@pytest.mark.parametrize(
    ("code", "defined"),
    [
        ("#define ONE(x) \\\n    ((x))\n", "ONE"),
        ("static int\nf(int a, int b)\n{\n    int c = 1;\n    g(c);\n}\n", "f"),
        ("static int f(int (*g)(void));\n", ""),
        ("struct s {\n    int a, *b, c[9];\n    int (*d)(int x);\n};", "s a b c d"),
        ("typedef struct {\n    _Atomic(int) n; /* x; */\n} T;", "T n"),
        ("typedef enum { READY, PENDING = 3 /* x */ } poll_t;", "poll_t READY PENDING"),
        ("static PyType_Slot T_slots[] = {\n    {Py_tp_doc, d},\n};", "T_slots"),
        ('PyDoc_STRVAR(doc, "x; y = 1;");', ""),
        ("static pthread_mutex_t lock = INIT;\nstatic int n;", "lock n"),
    ],
)
def test_the_names_that_c_defines_are_found(code, defined):
    assert checks.defined_in_c(code) == set(defined.split())


@pytest.mark.once
def test_api_names_are_found_in_code_only():
    code = '#include <Python.h>\n/* PyOne */ f(Py_TWO, "PyThree", METH_O, pthread_x);'
    assert checks.used_of_api(code) == {"Py_TWO", "METH_O", "pthread_x"}
