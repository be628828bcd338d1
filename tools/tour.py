"""Play the demos of chapters: title, idea, code, what it prints, where to read on.

Run it: python3 run.py tour [CHAPTER ...]
"""

import ast
import os
import signal
import subprocess
import sys
from textwrap import fill, indent

from missing import chapters


def play(chapter, bold, plain):
    """Play the demo in the folder chapter, and return its exit status."""
    demo = chapter / "demo.py"
    source = demo.read_text("utf-8")
    tree = ast.parse(source)
    title, _, idea = ast.get_docstring(tree).partition("\n\n")
    code = "\n".join(source.splitlines()[tree.body[0].end_lineno :]).strip("\n")
    print(f"\n{bold}{int(chapter.name[:2])}. {title}{plain}\n\n{fill(idea, 80)}\n")
    print(f"{indent(code, '    ')}\n\nIt prints:\n", flush=True)
    played = subprocess.run(
        [sys.executable, demo],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    print(indent(played.stdout, "    "), flush=True)
    sys.stderr.write(played.stderr)
    if played.returncode:
        sys.stderr.write(f"{demo} failed, exit status {played.returncode}.\n\n")
    print(f"Read on: book/{chapter.name}.md", flush=True)
    return played.returncode


def main(*stems):
    """Play the demos of chapters to the end; return 1 if one failed, else 0."""
    styles = ("\033[1m", "\033[0m")
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        styles = ("", "")
    failed = [stem for stem in stems if play(chapters()[stem], *styles)]
    return 1 if failed else 0


if __name__ == "__main__":
    # `| head` and Ctrl-C end a tour; neither is an error that needs a traceback.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(*sys.argv[1:] or chapters()))
