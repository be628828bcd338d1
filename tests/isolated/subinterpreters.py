"""The module of this Python that makes subinterpreters, or the end with status 77."""

for name in "_interpreters", "_xxsubinterpreters":
    try:
        interpreters = __import__(name)
        break
    except ImportError:
        pass
else:
    print("this Python has no subinterpreters module")
    raise SystemExit(77)
