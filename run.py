"""Build the book's chapters, play them, test them.

usage: python3 run.py COMMAND

  tour [CHAPTER ...]              play the demo of each chapter, or of some
  test [CHAPTER ...]              run every test, or those of some chapters
  test [CHAPTER ...] --sanitize   chapters under AddressSanitizer and UBSan
  python [ARGS ...]               a Python that can import the chapters
  bench [CHAPTER [COMMAND]]       time chapters beside `async def`, or more
  weave [--check]                 bring the sources into the book, or compare
  break CHAPTER [NAME]            see a deliberate mistake fail its test
  take CHAPTER DIR [--name NAME]  copy a chapter out as a project of its own

The Python that runs this file, 3.11 or newer, is the one that is used. What
is made stays in build/, apart for each Python. The first run needs the network.
"""

# An old Python must get through this file as far as check_python().
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "tools"))
from missing import ROOT, Stop, chapters, check_chapters, check_python, check_tools

VERSION = sys.version.split()[0] + getattr(sys, "abiflags", "")
IDENTITY = hashlib.sha256(f"{sys.version} {sys.base_prefix} {ROOT}".encode())
HOME = ROOT / "build" / f"{VERSION}-{IDENTITY.hexdigest()[:6]}"
VENV = HOME / "venv"
PYTHON = VENV / "bin" / "python"

# The lines of pip and ninja that show how far they have come.
PROGRESS = "Collecting", "Downloading", "Using c", "Installing", "WARNING: Retry", "["

SCRIPTS = {
    "tour": ["tour.py"],
    "test": ["suite.py"],
    "python": [],
    "bench": ["bench.py"],
    "weave": ["weave.py"],
    "break": ["breaks.py"],
    "take": ["take.py"],
}


def say(line):
    """Print a line beside, not into, the output that a command is run for."""
    print(line, file=sys.stderr, flush=True)


def environment(tree):
    """Return the variables of programs that import the chapters from tree."""
    path = f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    folders = [str(tree / "chapters" / path.name) for path in chapters().values()]
    env = dict(os.environ, PATH=path, PYTHONPATH=os.pathsep.join(folders))
    env.pop("PYTHONSAFEPATH", None)  # our scripts import each other
    return env


def run(failed, *command):
    """Run command and show its progress. If it fails, Stop: failed, its other lines."""
    lines = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(HOME / "tree"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        for line in child.stdout:
            if line.strip().startswith(PROGRESS):
                say("    " + line.strip()[:76])
            else:
                lines.append(line.rstrip())
    if child.returncode:
        raise Stop(failed, *lines[-40:])


def requirements():
    """Return what pyproject.toml wants for development, group by group."""
    import tomllib  # since 3.11, so not before check_python()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = project["dependency-groups"]
    names = [name for part in groups["dev"] for name in groups[part["include-group"]]]
    if "d" in getattr(sys, "abiflags", ""):  # there are no wheels for debug builds
        names = [name for name in names if not name.startswith("uvloop")]
    return names


def make_environment():
    """Make the virtual environment, unless the one that is there is good."""
    stamp, wanted = VENV / "stamp", requirements()
    # Written last: without it, the environment was interrupted half-made.
    if stamp.is_file() and stamp.read_text() == repr(wanted):
        return
    check_tools()
    say(f"Making a Python environment in build/{HOME.name} ...")
    shutil.rmtree(HOME, ignore_errors=True)
    # Perhaps this very Python was in HOME: then it is no more, but its base is.
    run("venv failed:", sys._base_executable, "-m", "venv", VENV)
    failed = "pip failed. The first run needs the network: connect and run this again."
    # Without --prefer-binary, pip may choose to compile for minutes.
    run(failed, PYTHON, "-m", "pip", "install", "--prefer-binary", *wanted)
    stamp.write_text(repr(wanted))


def build(tree, options):
    """Compile into tree, with meson's options, what has changed in the chapters."""
    stamp = tree / "stamp"
    wanted = repr([os.environ.get(name) for name in ("CC", "CFLAGS", "LDFLAGS")])
    if not stamp.is_file() or stamp.read_text() != wanted:
        check_tools()
        say(f"Setting up build/{HOME.name}/{tree.name} ...")
        shutil.rmtree(tree, ignore_errors=True)
        setup = ["meson", "setup", tree, "-Dwerror=true", *options]
        run("meson could not set up the build:", *setup)
        stamp.write_text(wanted)
    try:
        run("The build failed:", "ninja", "-C", tree)
    except Stop:
        check_tools()  # perhaps the compiler is gone since
        raise


def prepare(tree, options):
    """Bring the environment and tree up to date; both are ready to use then."""
    import fcntl  # not on Windows, so not before check_python()

    try:
        HOME.parent.mkdir(exist_ok=True)
        with open(f"{HOME}.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Waiting for another run.py to finish its build ...")
                fcntl.flock(lock, fcntl.LOCK_EX)
            make_environment()
            build(tree, options)
    except OSError as error:
        what = f"Cannot write to {error.filename or HOME}: {error.strerror}."
        mend = f"cp -r {shlex.quote(str(ROOT))} ~   (a copy of your own)"
        raise Stop(what, mend) from None


def main(command="--help", *words):
    """Turn into the program of a command, or return an exit status."""
    check_python()
    own = command in ("tour", "test")  # the others know what their words mean
    if {"--help", "-h", "help"} & {command, *(words if own else ())}:
        print(__doc__.strip())
        return 0
    if command not in SCRIPTS:
        say(f"{__doc__.strip()}\n\nThere is no command {command}.")
        return 2
    script = [ROOT / "tools" / name for name in SCRIPTS[command]]
    if command == "take":  # which needs nothing but Python
        os.execv(sys.executable, [sys.executable, *script, *words])
    tree, options, names = HOME / "tree", [], words
    if command == "test" and "--sanitize" in words:
        tree = HOME / "tree-sanitize"
        options = ["-Db_sanitize=address,undefined", "-Db_lundef=false"]
        names = [word for word in words if word != "--sanitize"]
    if command == "bench":  # as pip builds them: the other trees are for debugging
        tree = HOME / "tree-bench"
        options = ["--buildtype=release", "-Db_ndebug=true"]
    if own:
        check_chapters(names)
    prepare(tree, options)
    os.execve(PYTHON, [PYTHON, *script, *words], environment(tree))


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except Stop as stop:
        sys.exit("\n    ".join(stop.args))
