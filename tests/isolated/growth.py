"""What a script does twice must not grow: shared by races_*.py."""

import sys
import time


def eventually(condition, what):
    """Wait until condition(), and fail if that takes a minute."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    sys.exit(what)


def check_growth(case, measure, limit):
    """Call case() until measure() is what it was, but for `limit` blocks.

    measure() returns numbers, the last of which is that of Python's blocks. A leak
    shows each time, the noise of the interpreter does not.
    """
    case()
    for _ in range(5):
        before = measure()
        case()
        *grown, blocks = [b - a for a, b in zip(before, measure(), strict=True)]
        print("grew by", *grown, "and", blocks, "blocks")
        if not any(grown) and blocks < limit:
            return
    sys.exit("something leaks")
