"""What the scripts share that let each allocation of one call fail in turn.

A case is a function without arguments, which prepares a call. It returns a function,
its arguments, and what must be tidied after the call, or None.
"""

import gc
import sys
import sysconfig

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError:
    print("this Python has no _testcapi")
    raise SystemExit(77) from None

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    print("failing allocations end free-threaded Python, with or without us")
    raise SystemExit(77)

ONLY_THE_NTH, ALL_FROM_THE_NTH = True, False


### Cases
def method(name, make, *args):
    """A case: call the method `name` of what make() returns."""

    def prepare():
        made = make()
        return getattr(made, name), args, made

    return prepare


def calls(function, make):
    """A case: call function(make())."""

    def prepare():
        made = make()
        return function, (made,), made

    return prepare


def drops(make):
    """A case: drop the only reference to make()."""

    def prepare():
        holder = [make()]
        return holder.clear, (), None

    return prepare


### Failing
def attempt(function, args, start, stop, meanwhile):
    """Call with failing allocations; return its end, comparable, and its result."""
    spare = [[] for _ in range(200)]  # lists that need no memory to be made again
    result = None
    set_nomemory(start, stop)
    try:
        result = function(*args)
        end = type(result)
    except BaseException as error:
        end = type(error)
    meanwhile(result)
    remove_mem_hooks()
    del spare
    return end, result


class Shortage:
    """Play `cases`, by name, and note in `wrong` what did not end as it should.

    After each call, tidy() gets what the case had prepared, and the result.
    loses_the_error(name) tells whether SystemError is how this Python itself ends in
    that case. meanwhile(result) is called after a call, while there is no memory.
    """

    def __init__(self, cases, tidy, loses_the_error=None, meanwhile=None):
        self.cases = cases
        self.tidy = tidy
        self.loses_the_error = loses_the_error or (lambda name: False)
        self.meanwhile = meanwhile or (lambda result: None)
        self.wrong = []

    def end(self, name, start, stop):
        """Call once, and return how that ended."""
        function, args, made = self.cases[name]()
        end, result = attempt(function, args, start, stop, self.meanwhile)
        del function, args
        self.tidy(made, result)
        return end

    def check(self, name, only):
        """Fail allocation after allocation until there is none left to fail.

        Return how many failed.
        """
        expected = self.end(name, 10**6, 0)
        failures = in_a_row = start = 0
        while in_a_row < 10:
            end = self.end(name, start, start + 1 if only else 0)
            in_a_row = in_a_row + 1 if end is expected else 0
            if end is MemoryError and expected is not MemoryError:
                failures += 1
            elif end is not expected and not (
                end is SystemError and self.loses_the_error(name)
            ):
                self.wrong.append(f"{name}, allocation {start}: {end}, not {expected}")
            start += 1
            if start > 500:
                sys.exit(f"{name} never stops allocating")
        return failures

    def play(self, names):
        """Return how many allocations failed in the cases `names`."""
        total = 0
        for only in ONLY_THE_NTH, ALL_FROM_THE_NTH:
            for name in names:
                total += self.check(name, only)
        gc.collect()
        return total

    def main(self, *kept):
        """Play all cases, or those of the command line, and end the process.

        `kept` are objects of which no reference may be lost or left.
        """
        names = sys.argv[1:] or list(self.cases)
        sys.unraisablehook = id
        # An unraisable error without memory is written there.
        sys.stderr, stderr = None, sys.stderr
        try:
            self.play(names)
            before = [sys.getrefcount(one) for one in kept]
            total = self.play(names)
            after = [sys.getrefcount(one) for one in kept]
        finally:
            sys.stderr = stderr
        if after != before:
            sys.exit(f"references: {before} before, {after} after")
        print(*self.wrong, total, sep="\n")
        sys.exit(len(self.wrong))
