"""The checks of the book. Each yields problems that say how to mend them.

They get the root and the Blocks that the weave has compared below it.
"""

import ast
import itertools
import re
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from weave import sections

REFERENCE = "3.13"  # where versions differ, the pages show what this one prints
BY_HAND = "mermaid", "sh", "text"  # fences that need no weave
DIAGRAMS = "sequenceDiagram", "flowchart", "stateDiagram-v2"

API = re.compile(r"\b(?:_?Py\w+|(?:METH|PYGEN|CO|pthread|atomic)_\w+)")
DIRECTIVE = re.compile(r"^[ \t]*#(?:\\\n|.)*", re.MULTILINE)
DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include.*", re.MULTILINE)
FUNCTION = re.compile(r"(\w+)\s*\([^;{}]*\)\s*\{")
TAG = re.compile(r"\b(?:struct|union|enum)\s+(\w+)\s*\{")
VARIABLE = re.compile(r"(\w+)\s*(?:\[\w*\])?\s*(?:=[^;]*)?;")  # and typedef … NAME;
POINTER = re.compile(r"\(\*\s*(\w+)\)\s*\([^()]*\)")
MEMBER = re.compile(r"(\w+)\s*(?:\[[^]]*\])?\s*(?::\s*\d+)?\s*[,;]")
CONSTANT = re.compile(r"(\w+)\s*(?:=[^,]*)?(?:,|$)")


# What a piece of code is, and which names it has. This is no parser of C; it
# reads the C of this book, in the style of PEP 7.


def plain(code):
    """Return C code without its comments and without the text of its strings."""
    dull = r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'"""

    def blank(match):
        return '""' if match[0].startswith('"') else " "

    return re.sub(dull, blank, code, flags=re.DOTALL)


def is_whole(path, code):
    """Tell whether code ends where it began: outside of functions and tables."""
    if path.suffix == ".py":
        try:
            return bool(ast.parse(code).body)
        except SyntaxError:
            return False
    code = plain(code)
    return all(code.count(start) == code.count(end) for start, end in ("{}", "()"))


def fold(code):
    """Return code with every outer {…} emptied, and a (head, body) for each."""
    depth, flat, body, pairs = 0, "", "", []
    for char in code:
        depth -= char == "}"
        if depth > 0:
            body += char
        elif char == "}":
            pairs.append((re.split(r"[;}]", flat[:-1])[-1], body))
            body = ""
        if depth == 0:
            flat += char
        depth += char == "{"
    return flat, pairs


def defined_in_c(code):
    """Return the names of functions, types, members, tables and macros."""
    code = plain(code)
    names = set(DEFINE.findall(code))
    flat, pairs = fold(DIRECTIVE.sub("", code))
    flat = POINTER.sub(r"\1", flat)
    for pattern in FUNCTION, TAG, VARIABLE:
        names |= set(pattern.findall(flat))
    for head, body in pairs:
        if re.search(r"\benum\b[^=()]*$", head):
            names |= set(CONSTANT.findall(body.strip()))
        elif re.search(r"\b(?:struct|union)\b[^=()]*$", head):
            names |= set(MEMBER.findall(POINTER.sub(r"\1", body)))
    return names


def defined_in_python(code):
    """Return the names of functions, methods and classes."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return {n.name for n in ast.walk(ast.parse(code)) if isinstance(n, kinds)}


def used_of_api(code):
    """Return the names of the C API that C code uses."""
    return set(API.findall(INCLUDE.sub("", plain(code))))


# The checks.


def tokens_of(path):
    """Return the tokens of a page's Markdown."""
    markdown = MarkdownIt("commonmark").enable("table")
    return markdown.parse(path.read_text(encoding="utf-8"))


def sources(root):
    """Return the files whose every section the book shows, by their names."""
    found = [*root.glob("chapters/*/*.[ch]"), *root.glob("common/*.[ch]")]
    found += [*root.glob("chapters/*/model.py"), *root.glob("examples/*/*.[ch]")]
    return {path.relative_to(root).as_posix(): path for path in sorted(found)}


def check_sources(root, blocks):
    """Five opening lines stand above the headings, and sections are whole."""
    for name, path in sources(root).items():
        found = sections(path)
        opening = found.pop("").strip()
        if not re.fullmatch(r'/\*.*?\*/|"""[^"]*"""', opening, re.DOTALL):
            what = "code stands above the first heading"
            yield f"{name}: {what}; give it a heading of its own"
        elif len(opening.removesuffix('\n"""').splitlines()) > 5:
            yield f"{name}: its opening is too long; cut it to five lines"
        for title, code in found.items():
            if not code or not is_whole(path, code):
                mend = "put headings between functions, not into them"
                yield f"{name}: “{title}” is not a whole function or thought; {mend}"


def check_shown_once(root, blocks):
    """Each section of each source is shown exactly once in the book."""
    for name, path in sources(root).items():
        for title in filter(None, sections(path)):
            shown = [b for b in blocks if b.what == f"{name}, {title!r}"]
            places = " and ".join(f"{b.page}:{b.line}" for b in shown)
            if not shown:
                line = f'<!--cog show("{name}", "{title}") :-->'
                yield f"{name}: “{title}” is not shown; give a page {line}"
            elif len(shown) > 1:
                yield f"{name}: “{title}” is shown at {places}; remove all but one"


def check_fences(root, blocks):
    """Every fence is woven, or is of a kind that may be written by hand."""
    woven = [(block.page, block.line) for block in blocks]
    for path in [root / "README.md", *root.glob("book/*.md")]:
        page = str(path.relative_to(root))
        for token in tokens_of(path):
            if token.type not in ("fence", "code_block"):
                continue
            info, where = token.info, f"{page}:{token.map[0] + 1}"
            if (page, token.map[0]) not in woven and info not in BY_HAND:
                mend = f"weave it, or make it one of {', '.join(BY_HAND)}"
                kind = info or "a fence without a language"
                yield f"{where}: {kind} is written by hand; {mend}"
            if info == "mermaid" and not token.content.startswith(DIAGRAMS):
                mend = f"begin with one of {', '.join(DIAGRAMS)}"
                yield f"{where}: GitHub draws no such diagram; {mend}"


def listings_of(path):
    """Return [(token, words)] for the listings of a page.

    words are those in backticks near it: from the listing before, or the top of
    the page, to the one after.
    """
    listings, words = [], [set()]
    for token in tokens_of(path):
        if token.type == "fence" and token.info in ("c", "python"):
            listings.append(token)
            words.append(set())
        for child in token.children or []:
            if child.type == "code_inline":
                words[-1] |= set(re.findall(r"\w+", child.content))
    near = [before | after for before, after in itertools.pairwise(words)]
    return zip(listings, near, strict=True)


def check_names(root, blocks):
    """The prose around a listing names what it defines, or is first to use."""
    whats, known = {(b.page, b.line): b.what for b in blocks}, set()
    for path in sorted(root.glob("book/*.md")):
        page = str(path.relative_to(root))
        for token, spoken in listings_of(path):
            if token.info == "c":
                used = used_of_api(token.content)
                wanted = defined_in_c(token.content) | (used - known)
                known |= used
            else:
                wanted = defined_in_python(token.content)
            if wanted - spoken:
                names = ", ".join(f"`{name}`" for name in sorted(wanted - spoken))
                where = f"{page}:{token.map[0]}: {whats.get((page, token.map[0]))}"
                mend = "explain each, in backticks, before or after the listing"
                yield f"{where}: the prose does not name {names}; {mend}"


def anchors(path):
    """Return the anchors that GitHub gives to the headings of a page."""
    found = []
    for token, inline in itertools.pairwise(tokens_of(path)):
        if token.type == "heading_open":
            text = "".join(child.content for child in inline.children)
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            again = found.count(slug)
            found += [slug, f"{slug}-{again}"] if again else [slug]
    return found


def what_is_wrong_with_line(file, fragment, text):
    """Return what is wrong with a link to the line `fragment` of `file`, or ""."""
    lines = file.read_text(encoding="utf-8").splitlines()
    number = int(fragment[1:])
    if number <= len(lines) and text in lines[number - 1]:
        return ""
    at = [f"#L{i}" for i, line in enumerate(lines, 1) if text in line]
    return f"leads to a line without {text!r}, which is at {', '.join(at) or 'none'}"


def what_is_wrong(link, text, root, path):
    """Return what is wrong with a link of the page `path`, or ""."""
    url = urlsplit(link)
    if url.scheme == "https":
        return ""
    file = (path.parent / unquote(url.path)).resolve() if url.path else path
    if url.scheme or not file.is_relative_to(root) or not file.exists():
        return "leads to no file of the repository; mend it, or make it https"
    if file.suffix != ".md" and re.fullmatch(r"L\d+", url.fragment):
        return what_is_wrong_with_line(file, url.fragment, text)
    known = anchors(file) if file.suffix == ".md" else []
    if url.fragment and unquote(url.fragment) not in known:
        return f"has a dead anchor; {file.name} has {known}"
    return ""


def check_links(root, blocks):
    """All links lead to a file and a heading of the repository, or to https.

    A link to a line of a source, `[text](file#L1)`, leads to one that has its text.
    """
    for path in [*root.glob("*.md"), *root.glob("book/*.md")]:
        for block in tokens_of(path):
            tokens = block.children or []
            for token, following in itertools.pairwise([*tokens, None]):
                link = token.attrs.get("href") or token.attrs.get("src")
                text = following.content if following else ""
                wrong = what_is_wrong(link, text, root, path) if link else ""
                if wrong:
                    where = f"{path.relative_to(root)}:{block.map[0] + 1}"
                    yield f"{where}: the link {link} {wrong}"


def check_reference(root, blocks):
    """The introduction names the Python that prints what differs."""
    text = (root / "book" / "00_introduction.md").read_text(encoding="utf-8")
    if f"what Python {REFERENCE} prints" not in text:
        yield f"00_introduction.md: say that pages show what Python {REFERENCE} prints"


CHECKS = [
    check_sources,
    check_shown_once,
    check_fences,
    check_names,
    check_links,
    check_reference,
]
