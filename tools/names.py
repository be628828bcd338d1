"""Which names does a piece of code define, and which of the C API does it use?

This is no parser of C. It reads the C of this book, in the style of PEP 7.
"""

import ast
import re

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


def blank(code):
    """Return C code without its comments and without the text of its strings."""
    dull = r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'"""

    def keep_lines(match):
        text = match[0]
        return '""' if text.startswith('"') else "\n" * text.count("\n")

    return re.sub(dull, keep_lines, code, flags=re.DOTALL)


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
    code = blank(code)
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
    return set(API.findall(INCLUDE.sub("", blank(code))))
