"""The REPL behind the sessions of the book, in a process of its own.

tools/weave.py sends one statement after another, each a line of JSON, and gets
back what the statement wrote to sys.stdout and sys.stderr. A crash or a hang of
the C under test ends this process and no other; faulthandler says on stderr
what happened.
"""

import code
import faulthandler
import io
import json
import os
import sys

LIMIT = 60  # seconds for one statement


def answer(interpreter, source, output):
    """Run `source` and return what it wrote, and whether it was unfinished."""
    output.seek(0)
    output.truncate()
    unfinished = interpreter.runsource(source, "<stdin>")
    return {"output": output.getvalue(), "unfinished": unfinished}


def main():
    """Answer each line of stdin on stdout. The session sees neither."""
    questions, answers = sys.stdin, os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdin = io.StringIO()
    sys.stdout = sys.stderr = output = io.StringIO()
    interpreter = code.InteractiveInterpreter({"__name__": "__main__"})
    for line in questions:
        faulthandler.dump_traceback_later(LIMIT, exit=True, file=sys.__stderr__)
        reply = answer(interpreter, json.loads(line), output)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(reply), file=answers, flush=True)
    os._exit(0)  # whatever threads the page has left behind


if __name__ == "__main__":
    main()
