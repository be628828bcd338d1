"""Keep the pages of the book equal to what they show: code, sessions, output.

A page says what it shows, on a line of its own, and cog (the package cogapp)
writes the fence between that line and the next `<!--end-->`:

    <!--cog show("chapters/01_manual_await/manual_await.c", "run") :-->
    <!--end-->

show, repl and shell below are all that a page can say.
Run it: python3 run.py weave [--check]
"""

import argparse
import contextlib
import difflib
import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

import breaks
from cogapp import Cog
from session import Session, run_command

VERSION = sysconfig.get_python_version() + sys.abiflags


class Block(NamedTuple):
    """A woven fence, by its line in the old page; `left` to other versions or not."""

    page: str
    line: int
    info: str
    what: str
    left: bool


def sections(path):
    """Return {title: code} of a source; what stands above all titles is at ""."""
    mark = "###" if path.suffix == ".py" else "///"
    text = path.read_text(encoding="utf-8")
    opening, *rest = re.split(rf"^{mark} +(.+)\n", text, flags=re.MULTILINE)
    found = {"": opening}
    for title, code in zip(rest[0::2], rest[1::2], strict=True):
        if title in found:
            raise ValueError(f"{path.name} has two sections {title!r}; rename one")
        found[title] = code.strip("\n")
    return found


class Page:
    """One page while it is woven."""

    def __init__(self, root, path):
        self.root, self.path, self.name = root, path, str(path.relative_to(root))
        self.blocks, self.drifted, self.problems = [], [], []
        self.sessions, self.stack = {}, contextlib.ExitStack()
        self.cog = Cog()
        self.cog.options.parse_args(["--markers=<!--cog :--> <!--end-->"])
        words = self.show, self.repl, self.shell
        self.cog.options.defines = {word.__name__: self.spare(word) for word in words}
        self.cog.cogmodule.firstLineNum = 1  # cog goes on counting

    def spare(self, word):
        """Return word, so made that what it raises does not end the whole page."""

        def spared(*args, **kwargs):
            try:
                word(*args, **kwargs)
            except (ValueError, RuntimeError) as error:
                here = self.cog.cogmodule
                self.problems.append(f"{self.name}:{here.firstLineNum}: {error}")
                here.out(here.previous)

        return spared

    def weave(self, check):
        """Weave the page, or only compare it. Return what is wrong."""
        old = self.path.read_text(encoding="utf-8")
        try:
            with self.stack:
                new = self.cog.process_string(old)
        except Exception as error:
            where = f"{self.name}:{self.cog.cogmodule.firstLineNum}"
            why = error.__context__  # cog hides what a block has raised
            if why is None:
                return [f"{where}: {error}; write <!--cog … :-->, and <!--end--> below"]
            return [f"{where}: {type(why).__name__}: {why}"]
        what = f"{self.name}: {'; '.join(self.drifted)}"
        if new != old and check:
            diff = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="")
            mend = f"{what} has changed; run: python3 run.py weave"
            self.problems.append("\n".join([*diff, mend]))
        elif new != old:
            self.path.write_text(new, encoding="utf-8")
            print(f"rewrote {what}")
        return self.problems

    def fence(self, info, text, what, only="", below=""):
        """Write a fence, or leave alone what is there if it is of other versions."""
        here, left = self.cog.cogmodule, only != "" and VERSION not in only.split()
        new = here.previous if left else f"```{info}\n{text}\n```\n{below}"
        if new != here.previous:
            self.drifted.append(what)
        self.blocks.append(Block(self.name, here.firstLineNum, info, what, left))
        here.out(new)

    def sources(self, broken):
        """Return the root, or a copy with the chapter's break/BROKEN.diff applied."""
        if not broken:
            return self.root
        copy = Path(self.stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        return breaks.apply_break(self.root, self.path.stem[3:], broken, copy)

    def show(self, path, title, broken=""):
        """Show a section of a source, or what a deliberate mistake makes of it."""
        file = self.sources(broken) / path
        found = sections(file) if file.is_file() else {}
        if title not in found:
            raise ValueError(f"{path} has no section {title!r}; it has {[*found][1:]}")
        what = f"{path}, {title!r}" + (f" with {broken}" if broken else "")
        link = os.path.relpath(self.root / path, self.path.parent)
        with_what = f", with the mistake {broken}" if broken else ""
        below = f"<sub>[{path}]({link}), “{title}”{with_what}</sub>\n"
        info = "python" if path.endswith(".py") else "c"
        self.fence(info, found[title], what, below=below)

    def repl(self, broken="", only=""):
        """Run the input that stands in the fence and show what it prints.

        Names last for the page; with a deliberate mistake they are others.
        """
        if broken not in self.sessions:
            root = self.sources(broken)
            if broken:
                breaks.build_break(root, self.path.stem[3:])
            session = Session(root, root / "chapters" / self.path.stem)
            self.stack.callback(session.close)
            self.sessions[broken] = session
        text = self.sessions[broken].replay(self.cog.cogmodule.previous)
        self.fence("pycon", text, f"session {text.splitlines()[0]!r}", only)

    def shell(self, command, only=""):
        """Run a command and show what it prints."""
        text = f"$ {command}\n{run_command(command, self.root)}"
        self.fence("console", text, f"`{command}`", only)


def weave(root, check=False):
    """Weave the pages below root, or only compare. Return the Blocks and problems."""
    paths = [root / "README.md", *sorted(root.glob("book/*.md"))]
    pages = [Page(root, path) for path in paths]
    problems = [problem for page in pages for problem in page.weave(check)]
    blocks = [block for page in pages for block in page.blocks]
    left = sum(block.left for block in blocks)
    listings = sum(block.info in ("c", "python") for block in blocks)
    outputs = len(blocks) - listings - left
    checked = f"{listings} listings and {outputs} output blocks checked"
    print(f"woven on Python {VERSION}: {checked}, {left} left to other versions")
    return blocks, problems


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="run.py weave", description=weave.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    root = Path(__file__).resolve().parents[1]
    sys.exit("\n".join(weave(root, parser.parse_args().check)[1]) or 0)
