"""Run what the pages show, and tell what it printed, the same on every Python."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

CONSOLE = Path(__file__).with_name("console.py")
LINES = re.MULTILINE


class SessionError(Exception):
    """A session that cannot be shown. The text says why and how to mend it."""


def environment(*paths):
    """Return the environment of what we run, with `paths` to import from."""
    kept = {"PYTHONPATH", "PYTHONMALLOC"}
    env = {k: v for k, v in os.environ.items() if k[:6] != "PYTHON" or k in kept}
    env |= {"NO_COLOR": "1", "PYTHONNODEBUGRANGES": "1", "COLUMNS": "80"}
    env |= {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
    path = [*map(str, paths), *filter(None, [env.get("PYTHONPATH")])]
    return env | {"PYTHONPATH": os.pathsep.join(path)}


def tidy(text, root):
    """Take out of `text` what differs between machines and Python versions."""
    ours = rf"{re.escape(str(CONSOLE))}|<frozen |[^\"\n]*/site-packages/"
    hidden = rf"(?:{ours}|{re.escape(sysconfig.get_path('stdlib'))}/)"
    # The frames of the standard library, each with its lines of source.
    frame = rf'^([ |]*)  File "{hidden}.*\n(?:\1    .*\n)*(?:\1  \[Prev.*\n)?'
    text = re.sub(frame, "", text, flags=LINES)
    text = re.sub(r"^Traceback .*:\n(?=\S)", "", text, flags=LINES)
    # A warning that no line of ours has caused; and the hint below a warning.
    where = rf"^(?:sys:1|<sys>:0|{hidden}.*?:\d+): (\w+: .*\n)(?:  .*\n)?"
    text = re.sub(where, r"sys:1: \1", text, flags=LINES)
    text = re.sub(r"^\w+: Enable tracemalloc to get .*\n", "", text, flags=LINES)
    # Paths and addresses.
    text = re.sub(
        r"(?:/[^\s'\"]*/)?\b(\w+)\.(?:cpython|abi3)[\w-]*\.so", r"\1.so", text
    )
    text = text.replace(f"{root}{os.sep}", "").replace(str(root), ".")
    return re.sub(r"\b0x[0-9a-f]{6,}", "0x…", text)


def statements(fence):
    """Return the statements of a REPL session, each a list of its lines."""
    found, reading = [], False
    for line in textwrap.dedent(fence).splitlines():
        prompt = line[:4].rstrip()
        reading = prompt == ">>>" or (reading and prompt == "...")
        if prompt == ">>>":
            found.append([line.rstrip()])
        elif reading:
            found[-1].append(line.rstrip())
    return found


class Session:
    """A console in a process of its own: see console.py."""

    def __init__(self, root, *paths):
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", str(CONSOLE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment(*paths),
            cwd=root,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()

    def run(self, lines):
        """Run one statement, given with its prompts. Return what it printed.

        Raises SessionError if it is unfinished, crashes, or takes too long.
        """
        source = "\n".join(line[4:] for line in lines)
        try:
            print(json.dumps(source), file=self.process.stdin, flush=True)
            reply = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            said = self.process.communicate()[1].strip() or "it ended"
            status = f"{said.splitlines()[0]}, exit status {self.process.returncode}"
            raise SessionError(f"the session ended in {lines[0]!r}: {status}") from None
        if reply["unfinished"]:
            raise SessionError(f"{lines[0]!r} is unfinished; end it with a line `...`")
        output = tidy(reply["output"], self.root)
        if re.search(r"^>>>|\A\.\.\.", output, LINES):
            raise SessionError(f"{lines[0]!r} prints what looks like input; change it")
        return output.splitlines()

    def replay(self, fence):
        """Return the text of a session whose input stands in `fence`."""
        found = statements(fence)
        if not found:
            fence = "a ```pycon fence with lines that begin with >>>"
            raise SessionError(f"write the input first: {fence}")
        return "\n".join(line for s in found for line in [*s, *self.run(s)])


def run_command(command, root):
    """Return what a shell command printed, as at a prompt in `root`.

    `python3` is the interpreter below the virtual environment we are in.
    Raises SessionError when the command fails.
    """
    words = command.split()
    if words[0] == "python3":
        words[0] = getattr(sys, "_base_executable", sys.executable)
    done = subprocess.run(
        words,
        check=False,
        cwd=root,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=600,
    )
    if done.returncode:
        last = (done.stdout.splitlines() or ["nothing"])[-1]
        raise SessionError(f"`{command}` failed and printed at its end: {last}")
    return f"$ {command}\n{tidy(done.stdout, root)}"
