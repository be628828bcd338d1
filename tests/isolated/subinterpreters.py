"""The module of this Python that makes subinterpreters, or the end with status 77.

run(code) lets one run `code`; what fails there is noted in `failures`.
"""

for name in "_interpreters", "_xxsubinterpreters":
    try:
        interpreters = __import__(name)
        break
    except ImportError:
        pass
else:
    print("this Python has no subinterpreters module")
    raise SystemExit(77)

failures = []


def run(code):
    """Run `code` in an interpreter of its own."""
    interpreter = interpreters.create()
    try:
        failure = interpreters.run_string(interpreter, code)
    except RuntimeError as error:  # up to 3.12
        failure = error
    if failure is not None:
        failures.append(str(failure))
    interpreters.destroy(interpreter)
