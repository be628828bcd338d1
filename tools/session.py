"""A REPL in a process of its own, and commands: what they print, tidied.

Session is the near end. This file, run as a script, is the far end: it gets
one statement after another, each a line of JSON, and answers with what that has
written to sys.stdout and sys.stderr. A crash or a hang of the C under test ends
the far end and nothing else; faulthandler says on stderr what happened.
"""

import code
import faulthandler
import io
import json
import os
import re
import subprocess
import sys

LIMIT = 60  # seconds for one statement
# Without these, versions and terminals differ in what they print.
SAME = {"NO_COLOR": "1", "PYTHONNODEBUGRANGES": "1", "COLUMNS": "80"}
SAME |= {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}


def tidy(text, root):
    """Take out of `text` what differs between machines and Python versions."""
    foreign = rf"(?!<stdin>|\w+\.c\"|{re.escape(str(root))}/chapters/)"
    # Frames that are not ours, each with its lines of source.
    frame = rf'^([ |]*)  File "{foreign}.*\n(?:\1    .*\n)*'
    text = re.sub(frame, "", text, flags=re.MULTILINE)
    # The place of a warning that no line of ours has caused; and what to do next.
    warning = rf"^{foreign}\S+:\d+: (\w+Warning: .*\n)(?:  .*\n)?"
    text = re.sub(warning, r"sys:1: \1", text, flags=re.MULTILINE)
    text = re.sub(r"^\w+: Enable tracemalloc .*\n", "", text, flags=re.MULTILINE)
    text = text.replace(f"{root}/", "")
    text = re.sub(r"\b\d+\.\d+ s\b", "… s", text)  # a time that passed
    return re.sub(r"\b0x[0-9a-f]{6,}", "0x…", text)


class Session:
    """The near end. Its errors are ValueErrors that say how to mend the page."""

    def __init__(self, root, folder):
        """Start the far end in `root`, with `folder` to import from."""
        self.root = root
        far_end = [__file__, str(LIMIT), str(folder)]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-X", "faulthandler", *far_end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | SAME,
            cwd=root,
        )

    def close(self):
        """End it, whatever threads the page has left behind."""
        self.process.kill()
        self.process.communicate()

    def run(self, statement):
        """Run one statement, given with its prompts, and return what it printed."""
        lines = statement.splitlines()
        source = "\n".join(line[4:] for line in lines)
        try:
            print(json.dumps(source), file=self.process.stdin, flush=True)
            output = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            said = self.process.communicate()[1].strip() or "it ended"
            status = f"{said.splitlines()[0]}, exit status {self.process.returncode}"
            raise ValueError(f"the session ended in {lines[0]!r}: {status}") from None
        if output is None:
            raise ValueError(f"{lines[0]!r} is unfinished; end it with a line `...`")
        return tidy(output, self.root)

    def replay(self, fence):
        """Return the text of a session whose input stands in `fence`."""
        statements = re.findall(r"^>>>.*\n(?:\.\.\..*\n)*", fence, re.MULTILINE)
        if not statements:
            what = "a ```pycon fence with lines that begin with >>>"
            raise ValueError(f"write the input first: {what}")
        parts = [part for said in statements for part in (said, self.run(said))]
        return "\n".join(line for part in parts for line in part.splitlines())


def serve(limit, folder):
    """Be the far end: answer each statement that comes on stdin."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what C prints is no answer
    sys.path.insert(0, folder)
    interpreter = code.InteractiveInterpreter({"__name__": "__main__"})
    for line in sys.stdin:
        sys.stdout = sys.stderr = output = io.StringIO()
        faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__)
        unfinished = interpreter.runsource(json.loads(line), "<stdin>")
        faulthandler.cancel_dump_traceback_later()
        answer = None if unfinished else output.getvalue()
        print(json.dumps(answer), file=answers, flush=True)


def run_command(command, root):
    """Return what a command prints to stdout, run in `root` with this Python.

    Raises ValueError if it fails.
    """
    words = [sys.executable if w == "python3" else w for w in command.split()]
    done = subprocess.run(
        words,
        check=False,
        cwd=root,
        env=os.environ | SAME,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise ValueError(f"`{command}` failed, run it to see why: {last}")
    return tidy(done.stdout, root).rstrip("\n")


if __name__ == "__main__":
    serve(float(sys.argv[1]), sys.argv[2])
