"""What a machine or a command can lack, and what mends it.

run.py imports this before anything that is new in 3.11, so that an old Python
can say that it is too old: keep it plain enough for 3.6.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Stop(Exception):
    """Nothing more can be done. The arguments: what is wrong, then how to go on."""


def check_python():
    """Raise Stop unless this is a Python that the chapters are made for."""
    if os.name != "posix":
        raise Stop("The chapters need Linux or macOS.", "On Windows: wsl --install")
    if sys.implementation.name == "cpython" and sys.version_info >= (3, 11):
        return
    this = f"{sys.implementation.name} {sys.version.split()[0]}"
    mend = "Install one: https://www.python.org/downloads/"
    for newer in [f"python3.{minor}" for minor in range(11, 30)]:
        # The stand-ins of a version manager can be found and yet refuse to run.
        if subprocess.getstatusoutput(f"{newer} -c 0")[0] == 0:
            mend = " ".join(map(shlex.quote, [newer, *sys.argv]))
    raise Stop(f"This is {this}, but CPython 3.11 or newer is needed.", mend)


def chapters():
    """Return the folders of the chapters by their stems, in order."""
    folders = sorted(ROOT.glob("chapters/[0-9][0-9]_*"))
    return {folder.name[3:]: folder for folder in folders}


def check_chapters(names):
    """Raise Stop unless all of names are stems of chapters."""
    known = ", ".join(chapters())
    for name in names:
        if name not in chapters():
            raise Stop(f"There is no chapter {name}.", f"There are: {known}")


def check_tools():
    """Raise Stop unless Python can make environments and extensions compile."""
    if importlib.util.find_spec("ensurepip") is None:
        raise Stop("This Python cannot make environments: no ensurepip.", remedy())
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").exists():
        raise Stop(f"This Python has no C headers: no {headers}/Python.h.", remedy())
    command = shlex.split(os.environ.get("CC") or "cc")
    if not shutil.which(command[0]):
        raise Stop(f"There is no C compiler: no {command[0]}.", remedy("compiler"))
    # A compiler may be there without the headers of the C library.
    command += ["-shared", "-fPIC", "-I", headers, "-x", "c", "-", "-o", os.devnull]
    code = "#include <Python.h>\n"
    probe = subprocess.run(command, input=code, capture_output=True, text=True)
    if probe.returncode:
        quoted = probe.stderr.splitlines()[:5]
        raise Stop("The C compiler does not work:", *quoted, remedy("compiler"))


def remedy(lacks="python"):
    """Return how to get what a Python needs to build extensions, or the compiler."""
    packages = "gcc libc6-dev" if lacks == "compiler" else ""
    if sys.base_prefix == "/usr":
        python = f"python3.{sys.version_info[1]}"
        packages = f"{python}-venv {python}-dev gcc"
    if packages and shutil.which("apt-get"):
        return ("" if os.geteuid() == 0 else "sudo ") + f"apt-get install {packages}"
    return "Install a C compiler, and a Python that comes with ensurepip and Python.h."
