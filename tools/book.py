"""The checks of the book. Each returns a list of problems, with how to mend them.

Use: python tools/book.py [--root DIR]; tests/test_book.py runs them, too.
"""

import argparse
import ast
import itertools
import re
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from names import blank, defined_in_c, defined_in_python, used_of_api
from weave import REFERENCE, WeaveError, pages, section, sections

FREE = {"sh", "text", "mermaid"}  # fences that may be written by hand
DIAGRAMS = "sequenceDiagram flowchart graph stateDiagram-v2 classDiagram timeline"


class Show(NamedTuple):
    """What a page says to show a section: see show() in weave.py."""

    path: str
    title: str | None = None


class ShowBroken(NamedTuple):
    """What a page says to show a section with a mistake: see show_broken()."""

    chapter: str
    name: str
    title: str


class Output(NamedTuple):
    """What a page says to show output: see repl() and shell()."""

    what: object = None
    lines: int | None = None
    only: str | None = None
    broken: tuple | None = None


WORDS = {"show": Show, "show_broken": ShowBroken, "repl": Output, "shell": Output}


class Listing(NamedTuple):
    """A fence of a page. `said` is what its cog line says, None if it has none."""

    page: str
    line: int
    info: str
    code: str
    said: Show | ShowBroken | Output | None

    def __str__(self):
        title = self.said and getattr(self.said, "title", None)
        return f"{self.page}:{self.line}: " + (f"“{title}”" if title else "the fence")


class Prose(NamedTuple):
    """What stands in backticks in a paragraph, heading, or table cell."""

    spans: list[str]


def parse(path):
    """Return the tokens of a page's Markdown."""
    markdown = MarkdownIt("commonmark").enable("table")
    return markdown.parse(path.read_text(encoding="utf-8"))


def read(root, path):
    """Return the Listings and the Prose of a page, in order.

    Raises WeaveError for a cog line that says nothing we know.
    """
    page, found, said = path.relative_to(root).as_posix(), [], None
    for token in parse(path):
        text = token.content.strip()
        if token.type == "html_block" and text == "<!--end-->":
            said = None
        elif token.type == "html_block" and text.startswith("<!--cog "):
            code = text.removeprefix("<!--cog ").removesuffix("-->").strip()
            try:
                said = eval(code, {"REFERENCE": REFERENCE}, WORDS)
            except Exception as error:
                where = f"{page}:{token.map[0] + 1}"
                what = f"`{code}` is not understood ({error}); mend it"
                raise WeaveError(f"{where}: {what}") from None
        elif token.type in ("fence", "code_block"):
            info = token.info.split(" ")[0]
            found.append(Listing(page, token.map[0] + 1, info, token.content, said))
            said = None
        elif token.type == "inline":
            spans = [t.content for t in token.children if t.type == "code_inline"]
            found.append(Prose(spans))
    return found


def listings(root, paths):
    """Return the listings of some pages, in order."""
    found = [item for path in paths for item in read(root, path)]
    return [item for item in found if isinstance(item, Listing)]


def sources(root):
    """Return the files whose every section the book shows."""
    found = [p for folder in ("chapters", "common") for p in (root / folder).rglob("*")]
    ours = [p for p in found if p.suffix in {".c", ".h"} or p.name == "model.py"]
    return sorted(ours)


def headings_inside(path):
    """Return the titles of the headings that stand inside a function or table."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        nodes = ast.parse(text).body
        spans = [range(node.lineno, node.end_lineno + 1) for node in nodes]
        lines = enumerate(text.splitlines(), 1)
        return [s for n, s in lines if s[:3] == "###" and any(n in r for r in spans)]
    depth, found = 0, []
    for line, code in zip(text.splitlines(), blank(text).splitlines(), strict=True):
        if line.startswith("///") and depth > 0:
            found.append(line)
        depth += sum(map(code.count, "{(")) - sum(map(code.count, "})"))
    return found


def check_sources(root):
    """Nothing but five opening lines stands above the headings, none is inside."""
    problems = []
    for path in sources(root):
        name = path.relative_to(root).as_posix()
        try:
            found = sections(path)
            opening = found[""]
            inside = headings_inside(path)
        except (WeaveError, SyntaxError) as error:
            problems.append(f"{name}: {error}")
            continue
        comment = r'/\*.*?\*/|"""(?:(?!""").)*"""'
        if not re.fullmatch(comment, opening, re.DOTALL):
            what = "code stands above the first heading"
            problems.append(f"{name}: {what}; give it a heading of its own")
        elif len(opening.removesuffix('\n"""').splitlines()) > 5:
            problems.append(f"{name}: its opening is too long; cut it to five lines")
        for title in (t for t, code in found.items() if t and not code):
            problems.append(f"{name}: “{title}” has no code; remove the heading")
        for heading in inside:
            mend = "put it between functions (two sections are two functions)"
            problems.append(f"{name}: “{heading}” is inside something; {mend}")
    return problems


def check_shown_once(root):
    """Each section of each source is shown exactly once in the book."""
    problems, places = [], {}
    for listing in listings(root, sorted((root / "book").glob("*.md"))):
        if isinstance(listing.said, Show):
            try:
                section(root / listing.said.path, listing.said.title)
            except WeaveError as error:
                problems.append(f"{listing}: {error}")
            places.setdefault(listing.said, []).append(listing)
    for path in sources(root):
        name = path.relative_to(root).as_posix()
        for title in filter(None, sections(path)):
            shown = places.get(Show(name, title), [])
            if not shown:
                line = f'<!--cog show("{name}", "{title}") -->'
                problems.append(f"{name}: “{title}” is not shown; give a page {line}")
            for again in shown[1:]:
                problems.append(f"{again}: is shown at {shown[0]} already; remove one")
    return problems


def check_fences(root):
    """Every fence is woven, or is of a kind that may be written by hand."""
    problems = []
    mend = f"weave it, or make it one of {', '.join(sorted(FREE))}"
    for listing in listings(root, pages(root)):
        if not listing.said and listing.info not in FREE:
            kind = listing.info or "a fence without a language"
            problems.append(f"{listing}: {kind} is written by hand; {mend}")
    return problems


def around(items):
    """Return a page's listings of code, each with all words in backticks near it.

    Near is from the listing before, or the top of the page, to the one after.
    """
    code = Show | ShowBroken
    places = [
        n
        for n, item in enumerate(items)
        if isinstance(item, Listing) and isinstance(item.said, code)
    ]
    found = []
    for n, place in enumerate(places):
        first = places[n - 1] + 1 if n else 0
        last = places[n + 1] if n + 1 < len(places) else len(items)
        prose = [item for item in items[first:last] if isinstance(item, Prose)]
        spans = " ".join(span for item in prose for span in item.spans)
        found.append((items[place], set(re.findall(r"\w+", spans))))
    return found


def check_names(root):
    """The prose around a listing names what it defines, or is first to use."""
    problems, known = [], set()
    for path in sorted((root / "book").glob("*.md")):
        for listing, spoken in around(read(root, path)):
            wanted = set()
            if listing.info == "c":
                used = used_of_api(listing.code)
                wanted = defined_in_c(listing.code) | (used - known)
                known |= used
            elif listing.info == "python":
                wanted = defined_in_python(listing.code)
            if wanted - spoken:
                names = ", ".join(f"`{name}`" for name in sorted(wanted - spoken))
                mend = "explain each, in backticks, before or after the listing"
                problems.append(f"{listing}: the prose does not name {names}; {mend}")
    return problems


def anchors(path):
    """Return the anchors that GitHub gives to the headings of a page."""
    found, tokens = {}, parse(path)
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open":
            text = "".join(child.content for child in inline.children)
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            found[slug] = found.get(slug, -1) + 1
            if found[slug]:
                found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def check_link(root, path, link):
    """Return what is wrong with a link of the page `path`, or ""."""
    scheme, host, target, _, anchor = urlsplit(link)
    if scheme == "https":
        return ""
    if scheme or host:
        return "is not https; mend the address"
    if target.startswith("/"):
        return "is absolute; make it relative to the page"
    file = (path.parent / unquote(target)).resolve() if target else path
    if not file.is_relative_to(root):
        return "leads out of the repository; use its https address"
    if not file.exists():
        return "leads to no file; mend the path"
    if anchor and file.suffix != ".md":
        return "has an anchor, and the file has none; name the section in the text"
    if anchor and unquote(anchor) not in anchors(file):
        return f"has a dead anchor; {file.name} has {sorted(anchors(file))}"
    return ""


def check_links(root):
    """All links lead to a file and a heading of the repository, or to https."""
    problems = []
    for path in pages(root):
        for block in parse(path):
            for token in block.children or []:
                link = token.attrs.get("href") or token.attrs.get("src")
                wrong = check_link(root, path, str(link)) if link else ""
                dead = re.search(r"\[[^]]+\]\[[^]]*\]", token.content)
                if token.type == "text" and dead:
                    link, wrong = dead[0], "is defined nowhere; define it below"
                if wrong:
                    where = f"{path.relative_to(root).as_posix()}:{block.map[0] + 1}"
                    problems.append(f"{where}: the link {link} {wrong}")
    return problems


def check_diagrams(root):
    """Each Mermaid fence holds a diagram of a kind that GitHub draws."""
    problems = []
    for listing in listings(root, pages(root)):
        if listing.info == "mermaid":
            lines = [s for s in listing.code.splitlines() if not s.startswith("%%")]
            words = " ".join(lines).split() or [""]
            if len(words) < 2 or words[0] not in DIAGRAMS.split():
                mend = f"begin with one of: {DIAGRAMS}"
                problems.append(f"{listing}: no diagram in a mermaid fence; {mend}")
    return problems


def check_reference(root):
    """The introduction names the Python that writes what differs."""
    path = root / "book" / "00_introduction.md"
    if path.exists() and f"Python {REFERENCE}" in path.read_text(encoding="utf-8"):
        return []
    return [f"book/{path.name}: say that Python {REFERENCE} writes the output"]


CHECKS = [
    check_sources,
    check_shown_once,
    check_fences,
    check_names,
    check_links,
    check_diagrams,
    check_reference,
]


def main():
    """Print the problems of a book. Return the exit status."""
    parser = argparse.ArgumentParser(description="Check the book.")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    root = parser.parse_args().root.resolve()
    problems = []
    for check in CHECKS:
        try:
            problems += check(root)
        except WeaveError as error:
            problems.append(str(error))
    print(*dict.fromkeys(problems), sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
