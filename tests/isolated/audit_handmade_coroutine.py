"""Print the audit events of a coroutine's whole life; its kind is twin or native."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import handmade_coroutine as native
import twins as twin

m = {"twin": twin, "native": native}[sys.argv[1]]
listening = False
seen = []


def hook(event, args):
    if listening:
        seen.append((event, ["it" if one is coroutine else one for one in args]))
        if event == "object.__getattr__" and refuse in args:
            raise PermissionError(refuse)


coroutine = m.add(iter([]), 2)
refuse = None
coroutine.close()
sys.addaudithook(hook)
NAMES = [
    "cr_await",
    "cr_code",
    "cr_frame",
    "cr_origin",
    "cr_running",
    "cr_suspended",
    "__name__",
    "__qualname__",
    "send",
]


class Steps:
    def __await__(self):
        yield 1
        yield 2


def look():
    """Read every attribute."""
    for name in NAMES:
        getattr(coroutine, name)
        seen.append(name)


def live():
    """Make, send, throw and close, and look at every moment."""
    global coroutine
    for end in "close", "throw", "send":
        coroutine = m.add(Steps(), native.Echo(2))
        look()
        coroutine.send(None)
        look()
        try:
            getattr(coroutine, end)(*{"close": [], "throw": [KeyError]}.get(end, [1]))
        except KeyError:
            pass
        look()
        coroutine.close()


listening = True
live()
for refuse in "cr_frame", "cr_code":
    try:
        getattr(coroutine, refuse)
    except PermissionError as error:
        seen.append(f"refused {error}")
listening = False
print(*seen, sep="\n")
