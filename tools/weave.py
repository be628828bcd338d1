"""Keep the pages of the book equal to what they show: code, sessions, output.

A page says what it shows, on a line of its own, and cog (the package cogapp)
writes the fence between that line and the next `<!--end-->`:

    <!--cog show("chapters/01_manual_await/manual_await.c", "run") -->
    <!--end-->

show, show_broken, repl and shell below are all that a page can say.
Use: python tools/weave.py [--root DIR] [--check]
"""

import argparse
import contextlib
import dataclasses
import difflib
import io
import re
import sys
import sysconfig
import tempfile
import textwrap
from pathlib import Path

from cogapp import Cog
from cogapp.cogapp import CogError, CogUserException
from sessions import Session, SessionError, run_command

REFERENCE = "3.13"  # writes the output that differs between Python versions
VERSION = sysconfig.get_python_version()
VERSION += "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
LANGUAGES = {".c": "c", ".h": "c", ".py": "python", ".build": "meson"}
LANGUAGES |= {".toml": "toml", ".diff": "diff", ".sh": "sh"}
HEADINGS = {".c": "///", ".h": "///", ".py": "###", ".build": "###"}
ADVICE = "run: python3 run.py weave"


class WeaveError(CogError):
    """A page cannot be woven. The text says what is wrong and how to mend it."""


OURS = WeaveError, SessionError


@dataclasses.dataclass
class Report:
    """What came of weaving a book."""

    problems: list = dataclasses.field(default_factory=list)
    rewritten: list = dataclasses.field(default_factory=list)
    listings: int = 0
    outputs: int = 0
    left_alone: int = 0

    def __str__(self):
        return (
            f"woven on Python {VERSION}: {self.listings} listings and "
            f"{self.outputs} output blocks checked, "
            f"{self.left_alone} left to other versions"
        )


def pages(root):
    """Return the pages under `root`, those of the book in reading order."""
    fixed = [root / "README.md", root / "CONTRIBUTING.md"]
    return [p for p in fixed if p.exists()] + sorted((root / "book").glob("*.md"))


def sections(path):
    """Return {title: code} of a file; what stands above all titles is at "".

    Raises WeaveError if two sections have the same title.
    """
    mark, title = HEADINGS.get(path.suffix), ""
    found = {title: []}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not mark or not line.startswith(mark):
            found[title].append(line)
            continue
        title = line.removeprefix(mark).strip()
        if title in found:
            raise WeaveError(f"{path.name}: two sections {title!r}; rename one")
        found[title] = []
    return {title: "\n".join(lines).strip("\n") for title, lines in found.items()}


def section(path, title):
    """Return the code of a section, or (title None) of a file that has none."""
    if not path.is_file():
        raise WeaveError(f"no file {path}; mend the path")
    found = sections(path)
    if title is None and len(found) == 1:
        return found[""]
    if not title or title not in found:
        titles = ", ".join(repr(t) for t in found if t) or "none"
        raise WeaveError(f"{path.name}: no section {title!r}; it has {titles}")
    return found[title]


@contextlib.contextmanager
def broken_copy(root, chapter, name):
    """Give a copy of the sources with a chapter's break/NAME.diff applied."""
    from breaks import apply_break

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / "copy"
        yield apply_break(root, chapter, name, copy)


class Page(Cog):
    """One page while it is woven."""

    def __init__(self, root, path, report):
        super().__init__()
        self.root, self.report = root, report
        self.name = path.relative_to(root).as_posix()
        self.chapter = root / "chapters" / path.stem
        self.session, self.drifted = None, []
        self.options.begin_spec, self.options.end_spec = "<!--cog ", "-->"
        self.options.end_output = "<!--end-->"
        self._fix_end_output_patterns()

    # `-->` is an arrow of Mermaid's, too: only lines that are all ours count.
    def is_begin_spec_line(self, s):
        return s.lstrip().startswith("<!--cog ")

    def is_end_spec_line(self, s):
        return self.is_begin_spec_line(s) and s.rstrip().endswith("-->")

    def is_end_output_line(self, s):
        return s.strip() == "<!--end-->"

    def weave(self, old):
        """Return the new text of the page. Raises WeaveError."""
        new, says = io.StringIO(), [self.show, self.show_broken, self.repl, self.shell]
        words = {say.__name__: say for say in says} | {"REFERENCE": REFERENCE}
        try:
            self.process_file(io.StringIO(old), new, self.name, words)
        except (WeaveError, CogUserException, SyntaxError) as error:
            # cog makes a traceback into its text; we want what was raised.
            why = error.__context__ if type(error) is CogUserException else error
            kind = "" if isinstance(why, OURS) else f"{type(why).__name__}: "
            line = self.cogmodule.firstLineNum
            raise WeaveError(f"{self.name}:{line}: {kind}{why}") from None
        except CogError as error:
            pair = "each <!--cog … --> line needs an <!--end--> line below it"
            raise WeaveError(f"{error} ({pair})") from None
        finally:
            if self.session:
                self.session.__exit__()
        return new.getvalue()

    def fence(self, info, text, label):
        """Write a fence, and remember `label` if it was another before."""
        lines = text.splitlines()
        if any(self.is_begin_spec_line(s) or self.is_end_output_line(s) for s in lines):
            raise WeaveError(f"{label}: a line in it is a mark of the weave; change it")
        inner = re.findall(r"^\s*(`{3,})", text, re.MULTILINE)
        ticks = max(["``", *inner], key=len) + "`"
        new = "\n".join([ticks + info, *lines, ticks, ""])
        if new != textwrap.dedent(self.cogmodule.previous):
            self.drifted.append(label)
        self.cogmodule.out(new)

    def listing(self, path, text, label):
        """Write a fence of code from the file `path`."""
        self.report.listings += 1
        self.fence(LANGUAGES.get(path.suffix, "text"), text, label)

    def leave_alone(self, only):
        """Keep the fence and return True if it belongs to other versions."""
        if not only or VERSION in only.split():
            self.report.outputs += 1
            return False
        self.report.left_alone += 1
        self.cogmodule.out(textwrap.dedent(self.cogmodule.previous))
        return True

    def show(self, path, title=None):
        """Show a section of a file, or the whole of a file that has none."""
        file = self.root / path
        self.listing(file, section(file, title), f"{path}, {title!r}")

    def show_broken(self, chapter, name, title):
        """Show a section as a chapter's break/NAME.diff makes it read."""
        with broken_copy(self.root, chapter, name) as copy:
            for file in sorted(p for p in copy.rglob("*") if p.suffix in HEADINGS):
                old = self.root / file.relative_to(copy)
                changed = old.is_file() and old.read_bytes() != file.read_bytes()
                if changed and title in sections(file):
                    label = f"{title!r} as {name}.diff breaks it"
                    return self.listing(file, section(file, title), label)
        raise WeaveError(f"{name}.diff changes no file that has a section {title!r}")

    def repl(self, broken=None, only=None):
        """Run the input that stands in the fence and show what it prints.

        A page has one session, and its chapter's folder to import from. With
        broken=(chapter, name) the fence has a session of its own, and the
        chapter as break/NAME.diff makes it.
        """
        previous = self.cogmodule.previous
        if broken:
            from breaks import build_break

            with (
                broken_copy(self.root, *broken) as copy,
                Session(copy, build_break(copy, broken[0])) as session,
            ):
                text = session.replay(previous)
        else:
            self.session = self.session or Session(self.root, self.chapter)
            text = self.session.replay(previous)
        if not self.leave_alone(only):
            self.fence("pycon", text, f"session {text.splitlines()[0]!r}")

    def shell(self, command, lines=None, only=None):
        """Run a command and show its output, all or the first `lines` of it."""
        if self.leave_alone(only):
            return
        text = run_command(command, self.root)
        if text not in self.cogmodule.previous:
            text = run_command(command, self.root)  # the first run may have built
        shown = text.splitlines()
        if lines is not None and len(shown) > lines + 1:
            shown[lines + 1 :] = ["…"]
        self.fence("console", "\n".join(shown), f"`{command}`")


def weave(root, check=False):
    """Weave all pages under `root`, or only say what differs. Return a Report."""
    report = Report()
    for path in pages(root):
        page, old = Page(root, path, report), path.read_text(encoding="utf-8")
        try:
            new = page.weave(old)
        except WeaveError as error:
            report.problems.append(str(error))
            continue
        if new == old:
            continue
        if check:
            names = [f"{page.name} (as it is)", f"{page.name} (woven)"]
            lines = [old.splitlines(), new.splitlines()]
            diff = "\n".join(difflib.unified_diff(*lines, *names, lineterm=""))
            drifted = "; ".join(page.drifted)
            what = f"{page.name}: differs from what it shows: {drifted}; {ADVICE}"
            report.problems.append(f"{diff}\n{what}")
        else:
            path.write_text(new, encoding="utf-8")
            report.rewritten.append(f"{page.name}: {'; '.join(page.drifted)}")
    return report


def main():
    """Run from the command line. Return the exit status."""
    parser = argparse.ArgumentParser(description=weave.__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    report = weave(options.root.resolve(), options.check)
    for page in report.rewritten:
        print(f"rewrote {page}")
    print(report)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
