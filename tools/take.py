"""Write a chapter's module as a small project of its own, under a name of your own.

Run it: python3 run.py take CHAPTER DIR [--name NAME]
"""

import argparse
import keyword
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Builds the module where its files are, without meson or pip. The book prints it too.
COMPILE = (
    "cc -shared -fPIC "
    """-I"$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')" """
    "NAME.c -o NAME.so"
)

MESON = """\
project('NAME', 'c', default_options: ['c_std=c11', 'warning_level=2'])
python = import('python').find_installation(pure: false)
python.extension_module('NAME', 'NAME.c', install: true)
"""

PYPROJECT = """\
[build-system]
requires = ["meson-python>=0.16"]
build-backend = "mesonpy"

[project]
name = "NAME"
version = "0.1.0"
requires-python = ">=3.11"
license = { file = "LICENSE" }
"""

README = f"""\
NAME is the module of chapter CHAPTER of the book *Await in C*, yours to change.

- Build and install it: `python3 -m venv venv && venv/bin/pip install .`
- Test it then: `venv/bin/python test_NAME.py`
- Or only compile it, here: `{COMPILE}` (and test it: `python3 test_NAME.py`)
- Its licence is MIT: see LICENSE, and keep that file with the code.
"""


def included_headers(source: str, common: Path) -> dict[str, str]:
    """Return the headers of `common` that `source` includes, and those that they do.

    The keys are file names, the values their texts.
    """
    headers: dict[str, str] = {}
    pending = [source]
    while pending:
        for name in re.findall(r'^#include "(.+)"', pending.pop(), re.MULTILINE):
            if name not in headers:
                headers[name] = (common / name).read_text(encoding="utf-8")
                pending.append(headers[name])
    return headers


def use_threads(text: str) -> str:
    """Return `text`, which says how to build, for a module that has threads."""
    text = text.replace("cc -shared -fPIC ", "cc -shared -fPIC -pthread ")
    return text.replace("'NAME.c', ", "'NAME.c', dependencies: dependency('threads'), ")


def project_files(root: Path, chapter: str, name: str) -> dict[str, str]:
    """Return the files of the project `name`, made of `chapter`: file name to text.

    Raises ValueError for an unknown chapter and for a name that no module can have.
    """
    folders = {path.name[3:]: path for path in sorted(root.glob("chapters/[0-9]*_*"))}
    if chapter not in folders:
        raise ValueError(f"no chapter {chapter!r}; there is: {', '.join(folders)}")
    # What C, Python and pip take for a name: pip wants no "_" at either end.
    is_name = re.fullmatch("[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?", name)
    if not is_name or keyword.iskeyword(name):
        raise ValueError(f"{name!r} cannot be the name of a module and a project")
    if name in sys.stdlib_module_names or name == "test":
        raise ValueError(f"{name!r} is a module of the standard library")
    folder = folders[chapter]
    source = (folder / f"{chapter}.c").read_text(encoding="utf-8")
    test = (folder / "take_test.py").read_text(encoding="utf-8")
    headers = included_headers(source, root / "common")
    # Of the opening lines only the title is true away from the book.
    title, _, code = source.partition("\n\n")
    code = code.partition("*/")[2]
    opening = f'{title}\n\n   From the book "Await in C". MIT licence: see LICENSE. */'
    readme, meson = README, MESON
    if any("#include <pthread.h>" in text for text in headers.values()):
        readme, meson = use_threads(readme), use_threads(meson)
    renamed = {
        f"{name}.c": (opening + code).replace(chapter, name),
        f"test_{name}.py": test.replace(chapter, name),
        "README.md": readme.replace("NAME", name).replace("CHAPTER", chapter),
        "meson.build": meson.replace("NAME", name),
        "pyproject.toml": PYPROJECT.replace("NAME", name),
    }
    license_text = (root / "LICENSE").read_text(encoding="utf-8")
    return renamed | headers | {"LICENSE": license_text}


def write_project(files: dict[str, str], target: Path) -> None:
    """Write `files` to `target`, which is new or empty: all of them or none.

    Raises ValueError for any other `target`, OSError if it cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty directory")
    missing = [path for path in (target, *target.parents) if not path.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (target / name).write_text(text, encoding="utf-8")
    except BaseException:
        for name in files:
            (target / name).unlink(missing_ok=True)
        for path in filter(Path.exists, missing):
            path.rmdir()
        raise


def main(arguments: list[str] | None = None) -> int:
    """Take a chapter home and return the exit status; 2 if nothing was written."""
    parser = argparse.ArgumentParser(
        prog="run.py take", description="Write a chapter as a project of its own."
    )
    parser.add_argument("chapter")
    parser.add_argument("dir", type=Path, help="a directory: new, or empty")
    parser.add_argument("--name", help="the module's new name")
    options = parser.parse_args(arguments)
    name = options.chapter if options.name is None else options.name
    try:
        files = project_files(ROOT, options.chapter, name)
        write_project(files, options.dir.absolute())
    except (ValueError, OSError) as error:
        print(f"Nothing was written: {error}", file=sys.stderr)
        return 2
    print(f"Wrote to {options.dir}: {', '.join(sorted(files))}")
    print("Next, in that directory:")
    print("  python3 -m venv venv && venv/bin/pip install .")
    print(f"  venv/bin/python test_{name}.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
