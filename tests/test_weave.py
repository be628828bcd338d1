"""The weaver and the checks of the book, on a tiny book that each test breaks."""

import importlib
import re
import shutil
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import pytest

pytest.importorskip("cogapp", reason="the weave needs cogapp")
pytest.importorskip("markdown_it", reason="the book's checks need markdown-it-py")
TOOLS = Path(__file__).resolve().parents[1] / "tools"
book = importlib.import_module("book")
names = importlib.import_module("names")
sessions = importlib.import_module("sessions")
weave = importlib.import_module("weave")

C = """\
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
"""
MODEL = '''\
"""What tiny.c does, in Python."""

### The sum


def model_sum(pair):
    if not pair:
        raise ValueError("no pair")
    return pair[0]
'''
PAGE = """\
# Tiny

The struct `Pair` has a member `first`.

<!--cog show("chapters/01_tiny/tiny.c", "A pair") -->
<!--end-->

`pair_sum` makes a `PyObject *` with `PyLong_FromLong(…)`.

<!--cog show("chapters/01_tiny/tiny.c", "The sum") -->
<!--end-->

See [the sum](../chapters/01_tiny/tiny.c) and [the start](#tiny).

```mermaid
sequenceDiagram
    loop-->>task: a step
```

<!--cog show("chapters/01_tiny/model.py", "The sum") -->
<!--end-->

In Python it is `model_sum`.

<!--cog repl() -->
```pycon
>>> from model import model_sum
>>> model_sum([3])
```
<!--end-->
"""
INTRODUCTION = (
    "# Hello\n\nPython 3.13 writes what differs. See [Tiny](01_tiny.md#tiny).\n"
)
PLACES = {
    "c": "chapters/01_tiny/tiny.c",
    "model": "chapters/01_tiny/model.py",
    "page": "book/01_tiny.md",
    "introduction": "book/00_introduction.md",
    "readme": "README.md",
    "header": "common/tiny.h",
}


class Book:
    """A tiny book in a folder. `edit` and `write` break it."""

    def __init__(self, root):
        self.root = root
        self.write("c", C)
        self.write("model", MODEL)
        self.write("page", PAGE)
        self.write("introduction", INTRODUCTION)
        self.write("readme", "# Readme\n")

    def path(self, place):
        return self.root / PLACES[place]

    def read(self, place="page"):
        return self.path(place).read_text(encoding="utf-8")

    def write(self, place, text):
        self.path(place).parent.mkdir(parents=True, exist_ok=True)
        self.path(place).write_text(text, encoding="utf-8")

    def edit(self, place, old, new):
        assert old in self.read(place)
        self.write(place, self.read(place).replace(old, new, 1))

    def weave(self, check=False):
        return weave.weave(self.root, check)

    def problem(self, check=False):
        """Weave and return the one problem there is."""
        (problem,) = self.weave(check).problems
        return problem

    def session(self, text, call="repl()"):
        """Make the page one session with the input `text`; return its new text."""
        fence = f"# Tiny\n\n<!--cog {call} -->\n```pycon\n{text}\n```\n<!--end-->\n"
        self.write("page", fence)
        assert self.weave().problems == []
        return self.read().split("```pycon\n")[1].split("\n```")[0]


@pytest.fixture
def tiny(tmp_path):
    return Book(tmp_path)


@pytest.fixture
def woven(tiny):
    assert tiny.weave().problems == []
    return tiny


def run_script(root, *options):
    command = [sys.executable, str(TOOLS / "weave.py"), "--root", str(root), *options]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)


# What a page can show.


def test_weaving_writes_the_code_and_the_output_into_the_page(woven):
    page = woven.read()
    assert "```c\ntypedef struct {\n    int first;\n} Pair;\n```\n<!--end-->" in page
    assert "```python\ndef model_sum(pair):" in page
    assert ">>> model_sum([3])\n3\n```" in page


def test_weaving_again_changes_nothing(woven):
    before = woven.read()
    report = woven.weave()
    assert (report.rewritten, woven.read()) == ([], before)


def test_the_first_and_the_last_section_end_without_blank_lines(woven):
    assert "\n\n```\n" not in woven.read()
    assert "```c\n\n" not in woven.read()


def test_an_arrow_of_mermaid_and_of_c_is_no_mark_of_the_weave(woven):
    woven.edit("c", "pair->first", "pair-->first")
    assert woven.weave().problems == []
    assert woven.weave(check=True).problems == []
    assert "pair-->first" in woven.read()


def test_a_comment_of_the_page_stays(woven):
    woven.edit("page", "# Tiny\n", "# Tiny\n\n<!-- a note -->\n")
    report = woven.weave()
    assert (report.problems, report.rewritten) == ([], [])
    assert book.check_fences(woven.root) == []


@pytest.mark.parametrize("line", ["<!--end-->", "<!--cog repl() -->"])
def test_code_that_looks_like_a_mark_of_the_weave_is_refused(woven, line):
    woven.edit("c", "} Pair;", f"}} Pair; /*\n{line}\n*/")
    before = woven.read()
    assert "tiny.c, 'A pair': a line in it is a mark of the weave" in woven.problem()
    assert woven.read() == before


def test_code_with_a_fence_in_it_gets_a_longer_fence(woven):
    woven.edit("c", "} Pair;", "} Pair;\n// ```\n/*\n```\n*/")
    assert woven.weave().problems == []
    assert "````c\ntypedef" in woven.read()
    assert woven.weave(check=True).problems == []


def test_a_listing_inside_a_list_is_indented_with_it(tiny):
    call = 'show("chapters/01_tiny/tiny.c", "A pair")'
    tiny.write("page", f"- one\n\n  <!--cog {call} -->\n  <!--end-->\n")
    assert tiny.weave().problems == []
    assert "\n  ```c\n  typedef struct {\n      int first;" in tiny.read()
    assert tiny.weave(check=True).problems == []


def test_a_file_without_sections_is_shown_whole(tiny):
    (tiny.root / "meson.build").write_text("project('tiny', 'c')\n")
    tiny.write("page", '<!--cog show("meson.build") -->\n<!--end-->\n')
    assert tiny.weave().problems == []
    assert "```meson\nproject('tiny', 'c')\n```" in tiny.read()


@pytest.fixture
def breaks(monkeypatch):
    """Stand in for tools/breaks.py: `one` changes a type, `two` does not apply."""

    def apply_break(root, chapter, name, dest):
        if name == "two":
            raise ValueError("two.diff does not apply")
        shutil.copytree(root, dest)
        path = dest / PLACES["c"]
        path.write_text(path.read_text().replace("int first", "long first"))
        return dest

    def build_break(dest, chapter):
        (dest / "built").mkdir()
        code = f"import os\ndef f():\n    raise OSError('{chapter} is broken')\n"
        (dest / "built" / "tiny.py").write_text(code)
        return dest / "built"

    fake = types.SimpleNamespace(apply_break=apply_break, build_break=build_break)
    monkeypatch.setitem(sys.modules, "breaks", fake)


def test_a_broken_section_is_shown_as_the_diff_makes_it(tiny, breaks):
    call = 'show_broken("tiny", "one", "A pair")'
    tiny.write("page", f"<!--cog {call} -->\n<!--end-->\n")
    assert tiny.weave().problems == []
    assert "long first;" in tiny.read()


def test_a_broken_section_does_not_count_as_shown(woven, breaks):
    call = 'show_broken("tiny", "one", "A pair")'
    woven.write("page", woven.read() + f"\n<!--cog {call} -->\n<!--end-->\n")
    assert woven.weave().problems == []
    assert book.check_shown_once(woven.root) == []


def test_a_diff_that_does_not_apply_or_has_no_such_section_is_named(tiny, breaks):
    call = 'show_broken("tiny", "two", "A pair")'
    tiny.write("page", f"<!--cog {call} -->\n<!--end-->\n")
    assert "01_tiny.md:1: ValueError: two.diff does not apply" in tiny.problem()
    tiny.edit("page", '"two", "A pair"', '"one", "No pair"')
    assert "one.diff changes no file that has a section 'No pair'" in tiny.problem()


def test_a_session_can_run_against_a_broken_chapter(tiny, breaks):
    text = tiny.session(">>> import tiny\n>>> tiny.f()", 'repl(broken=("tiny", "one"))')
    assert "OSError: tiny is broken" in text
    assert 'File "built/tiny.py", line 3, in f' in text


# Sessions.


def test_a_session_prints_as_the_interpreter_does(tiny):
    assert (
        tiny.session(
            """\
>>> 1 + 1
>>> x = None
>>> x
>>> def f(n):
...     if n:
...         print("down", n)
...
...     return "end"
...
>>> f(1)
>>> for i in range(2):
...     i
...
>>> print("no newline", end="")
>>> (1,
...  2)"""
        )
        == """\
>>> 1 + 1
2
>>> x = None
>>> x
>>> def f(n):
...     if n:
...         print("down", n)
...
...     return "end"
...
>>> f(1)
down 1
'end'
>>> for i in range(2):
...     i
...
0
1
>>> print("no newline", end="")
no newline
>>> (1,
...  2)
(1, 2)"""
    )


def test_stale_output_is_replaced_and_the_input_stays(tiny):
    assert tiny.session(">>> 6 * 7\n41\nstale\n... stale\n\n>>> 1") == (
        ">>> 6 * 7\n42\n>>> 1\n1"
    )


def test_a_traceback_has_our_frames_only_and_no_absolute_path(tiny):
    text = tiny.session(
        ">>> import asyncio\n>>> from model import model_sum\n"
        ">>> async def ask():\n...     return model_sum(7)\n...\n"
        ">>> asyncio.run(ask())"
    )
    assert (
        text.split("asyncio.run(ask())\n")[1]
        == """\
Traceback (most recent call last):
  File "<stdin>", line 1, in <module>
  File "<stdin>", line 2, in ask
  File "chapters/01_tiny/model.py", line 9, in model_sum
    return pair[0]
TypeError: 'int' object is not subscriptable"""
    )


def test_a_chained_exception_a_group_and_a_syntax_error_are_printed(tiny):
    text = tiny.session(
        '>>> raise KeyError(1) from OSError("x")\n>>> x = = 1\n'
        '>>> raise ExceptionGroup("two", [OSError("y"), OSError("z")])'
    )
    assert (
        text
        == """\
>>> raise KeyError(1) from OSError("x")
OSError: x

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "<stdin>", line 1, in <module>
KeyError: 1
>>> x = = 1
  File "<stdin>", line 1
    x = = 1
        ^
SyntaxError: invalid syntax
>>> raise ExceptionGroup("two", [OSError("y"), OSError("z")])
  + Exception Group Traceback (most recent call last):
  |   File "<stdin>", line 1, in <module>
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | OSError: y
    +---------------- 2 ----------------
    | OSError: z
    +------------------------------------"""
    )


def test_warnings_and_what_the_garbage_collector_reports_are_printed(tiny):
    text = tiny.session(
        ">>> async def g():\n...     pass\n...\n>>> g()\n>>> 1\n"
        ">>> import asyncio\n>>> async def lose():\n"
        "...     asyncio.get_running_loop().create_future().set_exception(OSError(1))\n"
        "...\n>>> asyncio.run(lose())"
    )
    assert ">>> g()\n<coroutine object g at 0x…>\n" in text
    assert (
        ">>> 1\n<stdin>:1: RuntimeWarning: coroutine 'g' was never awaited\n1\n" in text
    )
    assert text.endswith(
        "Future exception was never retrieved\n"
        "future: <Future finished exception=OSError(1)>\nOSError: 1"
    )


def test_names_last_for_the_page_and_no_longer(tiny):
    block = "<!--cog repl() -->\n```pycon\n{}\n```\n<!--end-->\n"
    tiny.write("page", block.format(">>> x = 41") + block.format(">>> x + 1"))
    tiny.write("introduction", block.format(">>> x"))
    assert tiny.weave().problems == []
    assert ">>> x + 1\n42\n" in tiny.read()
    assert "NameError: name 'x' is not defined" in tiny.read("introduction")


def test_a_session_can_print_without_end_and_read_no_input(tiny):
    text = tiny.session(">>> print('x' * 200_000)\n>>> input()")
    assert len(text) > 200_000
    assert text.endswith("EOFError: EOF when reading a line")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write the input first"),
        (">>> def f():\n...     pass", "unfinished; end it with a line `...`"),
        (">>> print('>>> 1')", "prints what looks like input"),
        (">>> import os; os._exit(3)", "the session ended in .*exit status 3"),
        (">>> exit()", "the session ended in '>>> exit.*exit status 0"),
        (
            ">>> import faulthandler; faulthandler._sigsegv()",
            "the session ended in .*Segmentation fault, exit status",
        ),
    ],
)
def test_a_session_that_cannot_be_shown_says_why(tiny, text, message):
    tiny.write("page", f"\n<!--cog repl() -->\n```pycon\n{text}\n```\n<!--end-->\n")
    before = tiny.read()
    problem = tiny.problem()
    assert re.match(rf"book/01_tiny.md:2: .*{message}", problem)
    assert len(problem.splitlines()) == 1
    assert tiny.read() == before


def test_a_statement_that_hangs_ends_the_session(tmp_path):
    code = "import console; console.LIMIT = 0.5; console.main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input='"import threading; threading.Lock().acquire(); x = threading.Lock()"\n'
        '"x.acquire(); x.acquire()"\n',
        capture_output=True,
        encoding="utf-8",
        cwd=TOOLS,
        timeout=60,
    )
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.startswith("Timeout (0:00:00.5")


def test_what_bypasses_sys_stdout_is_not_shown_and_harms_nothing(tiny):
    text = ">>> import os\n>>> os.write(1, b'from C\\n')\n>>> 1"
    assert tiny.session(text) == text.replace(">>> 1", "7\n>>> 1\n1")


def test_a_thread_that_a_session_leaves_behind_does_not_delay_the_weave(tiny):
    text = ">>> import threading, time\n>>> wait = lambda: time.sleep(600)\n"
    assert tiny.session(f"{text}>>> threading.Thread(target=wait).start()")


STDLIB = sysconfig.get_path("stdlib")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("at 0x7f0123456789>, 0x10", "at 0x…>, 0x10"),
        ("from '/root/book/build/x.cpython-313-x86_64-linux-gnu.so'", "from 'x.so'"),
        ("from '/root/book/build/x.abi3.so'", "from 'x.so'"),
        ('  File "/root/book/chapters/m.py", line 1', '  File "chapters/m.py", line 1'),
        (
            f'  File "{STDLIB}/a.py", line 1, in f\n    x = (\n        1)\nOSError',
            "OSError",
        ),
        (f'  |   File "{STDLIB}/a.py", line 1, in f\n  |     x\n  | E', "  | E"),
        ('  File "<frozen os>", line 1, in f\n  [Previous line repeated 9 …]\nE', "E"),
        ('  File "/x/site-packages/a.py", line 1, in f\n    x\nOSError', "OSError"),
        ("Traceback (most recent call last):\nOSError", "OSError"),
        ("<sys>:0: RuntimeWarning: never\n", "sys:1: RuntimeWarning: never\n"),
        ("sys:1: RuntimeWarning: never\n", "sys:1: RuntimeWarning: never\n"),
        (f"{STDLIB}/a.py:7: MyWarning: no\n  x = 1\n", "sys:1: MyWarning: no\n"),
        ("<stdin>:1: RuntimeWarning: never\n", "<stdin>:1: RuntimeWarning: never\n"),
        ("RuntimeWarning: Enable tracemalloc to get the object …\n1", "1"),
    ],
)
def test_what_differs_between_machines_and_versions_is_not_shown(printed, shown):
    assert sessions.tidy(printed, Path("/root/book")) == shown


# Output that belongs to one version.


@pytest.mark.parametrize("call", ["repl(only='3.99')", "shell('false', only='3.99')"])
def test_output_of_another_version_is_left_alone_and_counted(tiny, call):
    stale = f"<!--cog {call} -->\n```pycon\n>>> 1\nstale\n```\n<!--end-->\n"
    tiny.write("page", stale)
    report = tiny.weave()
    assert (report.problems, tiny.read()) == ([], stale)
    assert (report.outputs, report.left_alone) == (0, 1)
    assert "0 output blocks checked, 1 left to other versions" in str(report)


def test_output_of_this_version_is_woven_and_counted(tiny):
    assert tiny.session(">>> 1", f"repl(only='3.99 {weave.VERSION}')") == ">>> 1\n1"
    report = tiny.weave(check=True)
    assert (report.problems, report.outputs, report.left_alone) == ([], 1, 0)


def test_a_session_left_alone_still_gives_its_names_to_later_ones(tiny):
    block = "<!--cog {} -->\n```pycon\n{}\n```\n<!--end-->\n"
    first = block.format("repl(only='3.99')", ">>> x = 41")
    tiny.write("page", first + block.format("repl()", ">>> x + 1"))
    assert tiny.weave().problems == []
    assert ">>> x + 1\n42\n" in tiny.read()


# Commands.


def test_a_command_is_shown_with_its_output_and_cut_where_told(tiny):
    (tiny.root / "run.py").write_text("for i in range(5): print(i)\n")
    call = "shell('python3 run.py tour', lines=2)"
    tiny.write("readme", f"<!--cog {call} -->\n<!--end-->\n")
    assert tiny.weave().problems == []
    assert "```console\n$ python3 run.py tour\n0\n1\n…\n```" in tiny.read("readme")
    assert tiny.weave(check=True).problems == []


def test_a_command_that_builds_at_its_first_run_is_shown_as_the_second_prints(tiny):
    code = (
        "import pathlib as p\nd = p.Path('d')\nprint(d.exists())\nd.mkdir(exist_ok=1)"
    )
    (tiny.root / "run.py").write_text(code)
    tiny.write("readme", "<!--cog shell('python3 run.py') -->\n<!--end-->\n")
    assert tiny.weave().problems == []
    assert "$ python3 run.py\nTrue\n```" in tiny.read("readme")


def test_a_command_that_fails_is_a_problem(tiny):
    (tiny.root / "run.py").write_text("raise SystemExit('no compiler')\n")
    tiny.write("readme", "<!--cog shell('python3 run.py') -->\n<!--end-->\n")
    message = "`python3 run.py` failed and printed at its end: no compiler"
    assert message in tiny.problem()


# Drift, and mistakes of the page.


@pytest.mark.parametrize(
    ("place", "old", "new", "drifted"),
    [
        ("c", "int first", "long first", "chapters/01_tiny/tiny.c, 'A pair'"),
        (
            "model",
            "pair[0]",
            "pair[0] + 1",
            "session '>>> from model import model_sum'",
        ),
        ("page", "\n3\n", "\n4\n", "session '>>> from model import model_sum'"),
    ],
)
def test_drift_is_shown_as_a_diff_and_mended_by_weaving(
    woven, place, old, new, drifted
):
    woven.edit(place, old, new)
    before = woven.read()
    problem = woven.problem(check=True)
    assert woven.read() == before
    assert re.search(r"^-.*\n\+", problem, re.MULTILINE)
    last = problem.splitlines()[-1]
    assert last.startswith("book/01_tiny.md: differs from what it shows: ")
    assert drifted in last
    assert last.endswith("; run: python3 run.py weave")
    assert woven.weave().rewritten[0].startswith("book/01_tiny.md: ")
    assert woven.weave(check=True).problems == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"A pair"',
            '"Two steps"',
            "no section 'Two steps'; it has 'A pair', 'The sum'",
        ),
        (', "A pair"', "", "tiny.c: no section None; it has 'A pair', 'The sum'"),
        ("tiny.c", "huge.c", "no file .*huge.c; mend the path"),
        ("show(", "shew(", "NameError: name 'shew' is not defined"),
        ("show(", "show((", r"'\(' was never closed"),
        ("show(", "show(1, 2, ", r"TypeError: .*positional arguments"),
    ],
)
def test_a_mistake_in_a_page_is_named_in_one_line(woven, old, new, message):
    woven.edit("page", old, new)
    before = woven.read()
    problem = woven.problem()
    assert re.match(rf"book/01_tiny.md:5: .*{message}", problem)
    assert len(problem.splitlines()) == 1
    assert woven.read() == before


def test_a_missing_end_line_is_named(woven):
    woven.edit("page", "<!--end-->", "")
    assert "needs an <!--end--> line below it" in woven.problem()


def test_two_sections_of_one_name_are_refused(woven):
    woven.edit("c", "/// The sum", "/// A pair")
    assert "tiny.c: two sections 'A pair'; rename one" in woven.problem()


def test_a_mistake_in_one_page_does_not_keep_the_others_from_weaving(tiny):
    tiny.write("introduction", "<!--cog nonsense -->\n<!--end-->\n")
    report = tiny.weave()
    assert len(report.problems) == 1
    assert "int first" in tiny.read()


def test_the_script_exits_with_0_or_1_and_advises(tiny):
    done = run_script(tiny.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rewrote book/01_tiny.md: chapters/01_tiny/tiny.c, 'A pair'; " in done.stdout
    assert "3 listings and 1 output blocks checked, 0 left" in done.stdout
    assert run_script(tiny.root, "--check").returncode == 0
    tiny.edit("c", "int", "long")
    done = run_script(tiny.root, "--check")
    assert done.returncode == 1
    assert "-    int first;\n+    long first;\n" in done.stderr
    assert done.stderr.endswith("run: python3 run.py weave\n")
    tiny.edit("page", "A pair", "No pair")
    done = run_script(tiny.root)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


# The checks of the book.


@pytest.mark.once
@pytest.mark.parametrize("check", book.CHECKS, ids=lambda check: check.__name__)
def test_the_tiny_book_passes(woven, check):
    assert check(woven.root) == []


BROKEN = {
    "a section that is not shown": (
        "check_shown_once",
        ("c", "/// The sum", "/// One more\n\nint more;\n\n/// The sum"),
        r"^chapters/01_tiny/tiny.c: “One more” is not shown; give a page <!--cog show",
    ),
    "a section of a header that is not shown": (
        "check_shown_once",
        ("header", "", "/* h */\n\n/// A macro\n\n#define X 1\n"),
        r"^common/tiny.h: “A macro” is not shown; give a page <!--cog show",
    ),
    "a section shown twice": (
        "check_shown_once",
        ("page", '"The sum"', '"A pair"'),
        r"^book/01_tiny.md:\d+: “A pair”: is shown at book/01_tiny.md:\d+: “A pair” "
        "already; remove one",
    ),
    "a section that does not exist": (
        "check_shown_once",
        ("page", '"The sum"', '"The product"'),
        "^book/01_tiny.md:.* no section 'The product'; it has 'A pair', 'The sum'",
    ),
    "code above the first heading": (
        "check_sources",
        ("c", "/// A pair", "int early;\n\n/// A pair"),
        "tiny.c: code stands above the first heading; give it a heading of its own",
    ),
    "Python above the first heading": (
        "check_sources",
        ("model", "### The sum", "import os\n\n### The sum"),
        "model.py: code stands above the first heading; give it a heading of its own",
    ),
    "an opening that is too long": (
        "check_sources",
        ("c", "file. */", "file.\n\n\n\n\n*/"),
        "tiny.c: its opening is too long; cut it to five lines",
    ),
    "a heading inside a function": (
        "check_sources",
        ("c", "    return", "/// Inside\n    return"),
        "tiny.c: “/// Inside” is inside something; put it between functions",
    ),
    "a heading inside a Python function": (
        "check_sources",
        ("model", "    return", "### Inside\n    return"),
        "model.py: “### Inside” is inside something; put it between functions",
    ),
    "a heading with nothing below it": (
        "check_sources",
        ("c", "/// The sum", "/// Nothing\n\n/// The sum"),
        "tiny.c: “Nothing” has no code; remove the heading",
    ),
    "two headings of one name": (
        "check_sources",
        ("c", "/// The sum", "/// A pair"),
        "tiny.c: two sections 'A pair'; rename one",
    ),
    "a C fence written by hand": (
        "check_fences",
        ("page", "See [the sum]", "```c\nint x;\n```\n\nSee [the sum]"),
        "^book/01_tiny.md:.*: c is written by hand; weave it, or make it one of",
    ),
    "a session written by hand": (
        "check_fences",
        ("readme", "# Readme", "# Readme\n\n```pycon\n>>> 1\n```"),
        "^README.md:3: the fence: pycon is written by hand; weave it",
    ),
    "a fence without a language": (
        "check_fences",
        ("page", "See [the sum]", "```\nx\n```\n\nSee [the sum]"),
        "^book/01_tiny.md:.*: a fence without a language is written by hand; weave it",
    ),
    "a function that is not explained": (
        "check_names",
        ("page", "`pair_sum`", "pair_sum"),
        "^book/01_tiny.md:.*: the prose does not name `pair_sum`; explain each",
    ),
    "a member that is not explained": (
        "check_names",
        ("page", "`first`", "`first_of_all`"),
        "^book/01_tiny.md:.*: the prose does not name `first`; explain each",
    ),
    "a type that is not explained": (
        "check_names",
        ("page", "`Pair`", "Pair"),
        "^book/01_tiny.md:.*: the prose does not name `Pair`; explain each",
    ),
    "an API name that is not explained": (
        "check_names",
        ("page", "`PyLong_FromLong(…)`", "magic"),
        "^book/01_tiny.md:.*: the prose does not name `PyLong_FromLong`; explain each",
    ),
    "a Python function that is not explained": (
        "check_names",
        ("page", "`model_sum`", "model_sum"),
        "^book/01_tiny.md:.*: the prose does not name `model_sum`; explain each",
    ),
    "a dead link": (
        "check_links",
        ("page", "tiny/tiny.c)", "tiny/tidy.c)"),
        r"^book/01_tiny.md:\d+: the link \S*tidy.c leads to no file; mend the path",
    ),
    "a dead anchor on the page": (
        "check_links",
        ("page", "(#tiny)", "(#tidy)"),
        r"^book/01_tiny.md:\d+: the link #tidy has a dead anchor; .* has \['tiny'\]",
    ),
    "a dead anchor on another page": (
        "check_links",
        ("introduction", "#tiny", "#tidy"),
        r"^book/00_introduction.md:3: the link \S+#tidy has a dead anchor; 01_tiny.md",
    ),
    "an absolute link": (
        "check_links",
        ("readme", "# Readme", "[x](/book/01_tiny.md)"),
        "^README.md:1: the link .* is absolute; make it relative to the page",
    ),
    "a link out of the repository": (
        "check_links",
        ("readme", "# Readme", "[x](../x)"),
        "^README.md:1: the link ../x leads out of the repository; use",
    ),
    "a link that is not https": (
        "check_links",
        ("readme", "# Readme", "[x](http://example.org)"),
        "^README.md:1: the link http://example.org is not https; mend the address",
    ),
    "a link that is not defined": (
        "check_links",
        ("readme", "# Readme", "See [the sum][sum]."),
        r"^README.md:1: the link \[the sum\]\[sum\] is defined nowhere; define it",
    ),
    "an image that is not there": (
        "check_links",
        ("readme", "# Readme", "![x](x.png)"),
        "^README.md:1: the link x.png leads to no file; mend the path",
    ),
    "a diagram of no kind": (
        "check_diagrams",
        ("page", "sequenceDiagram", "sequencediagram"),
        r"^book/01_tiny.md:\d+: the fence: no diagram in a mermaid fence; begin with",
    ),
    "an introduction that names no reference version": (
        "check_reference",
        ("introduction", f"Python {weave.REFERENCE}", "Python"),
        f"^book/00_introduction.md: say that Python {weave.REFERENCE} writes the",
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("name", BROKEN)
def test_a_check_notices(woven, name):
    check, (place, old, new), message = BROKEN[name]
    if old:
        woven.edit(place, old, new)
    else:
        woven.write(place, new)
    woven.weave()
    problems = getattr(book, check)(woven.root)
    assert re.search(message, "\n".join(problems), re.MULTILINE)


@pytest.mark.once
def test_an_explanation_beside_another_listing_does_not_count(woven):
    woven.edit("page", "`pair_sum`", "It")
    woven.edit("page", "# Tiny\n", "# Tiny\n\n`pair_sum`\n")
    woven.edit("page", "it is `model_sum`", "it is `model_sum`, not `pair_sum`")
    (problem,) = book.check_names(woven.root)
    assert "“The sum”: the prose does not name `pair_sum`" in problem


@pytest.mark.once
def test_a_fence_by_hand_below_an_empty_block_is_not_taken_for_its_own(tiny):
    tiny.edit("page", "<!--end-->\n", "<!--end-->\n\n```c\nint x;\n```\n")
    (problem,) = book.check_fences(tiny.root)
    assert "c is written by hand" in problem


@pytest.mark.once
def test_an_api_name_is_explained_where_it_comes_first_only(woven):
    more = "\n/// Again\n\nstatic PyObject *\nagain(void)\n{\n    return NULL;\n}\n"
    woven.write("c", woven.read("c") + more)
    call = 'show("chapters/01_tiny/tiny.c", "Again")'
    end = f"\n# Again\n\nThis is `again`.\n\n<!--cog {call} -->\n<!--end-->\n"
    woven.write("page", woven.read() + end)
    assert woven.weave().problems == []
    assert book.check_names(woven.root) == []


@pytest.mark.once
def test_anchors_are_made_as_github_makes_them(tiny):
    text = (
        "# A & B: `__await__`, [C](x)!\n\n## Two words\n\n## Two words\n\n### Ünï_1\n"
    )
    tiny.write("page", text)
    assert book.anchors(tiny.path("page")) == {
        "a--b-__await__-c",
        "two-words",
        "two-words-1",
        "ünï_1",
    }


@pytest.mark.once
@pytest.mark.parametrize(
    ("code", "defined"),
    [
        ("#define ONE(x) \\\n    ((x))\n", "ONE"),
        ("static int\nf(int a, int b)\n{\n    int c = 1;\n    g(c);\n}\n", "f"),
        ("static int f(int (*g)(void));\n", ""),
        (
            "struct s {\n    PyObject_HEAD\n    int a, *b;\n    char c[9];\n};",
            "s a b c",
        ),
        ("struct s {\n    int (*poll)(struct s *self, int x);\n};", "s poll"),
        ("typedef struct {\n    _Atomic(int) n; /* x; */\n} T;", "T n"),
        ("typedef enum { READY, PENDING = 3 } poll_t;", "poll_t READY PENDING"),
        ("typedef int (*wake_fn)(void *data);", "wake_fn"),
        ("static PyType_Slot T_slots[] = {\n    {Py_tp_doc, d},\n};", "T_slots"),
        ("static struct PyModuleDef m = {\n    .m_size = 0,\n};", "m"),
        ('PyDoc_STRVAR(doc, "x; y = 1;");', ""),
        ("static pthread_mutex_t lock = INIT;\nstatic int n;", "lock n"),
        ("#define S(n) struct n { int a; };\n", "S"),
        ("#if X\nint a;\n#else\nint b;\n#endif\n", "a b"),
    ],
)
def test_the_names_that_c_defines_are_found(code, defined):
    assert names.defined_in_c(code) == set(defined.split())


@pytest.mark.once
def test_api_names_are_found_in_code_only():
    code = '#include <Python.h>\n/* PyOne */ f(Py_TWO, "PyThree", METH_O, pthread_x);'
    assert names.used_of_api(code) == {"Py_TWO", "METH_O", "pthread_x"}
