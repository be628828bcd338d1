"""Build the book's chapters, play them, test them.

usage: python3 run.py COMMAND

  tour                            play the demo of each chapter
  test [CHAPTER ...]              run every test, or those of some chapters
  test [CHAPTER ...] --sanitize   chapters under AddressSanitizer and UBSan
  python [ARGS ...]               a Python that can import the chapters
  weave [--check]                 bring the sources into the book, or compare
  break CHAPTER NAME              see a deliberate mistake fail its test
  take CHAPTER DIR [--name NAME]  copy a chapter out as a project of its own

The Python that runs this file, 3.11 or newer, is the one that is used. What
is made stays in build/, apart for each Python. The first run needs the network.
"""

# An old Python must get through this file as far as check_python().
import ast
import collections
import hashlib
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import venv
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# The Python beneath any virtual environment that this file was started from.
BASE = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
VERSION = ".".join(map(str, sys.version_info[:3])) + getattr(sys, "abiflags", "")
IDENTITY = hashlib.sha256(f"{sys.version} {BASE.parent} {ROOT}".encode()).hexdigest()
HOME = ROOT / "build" / f"{VERSION}-{IDENTITY[:6]}"
BIN = HOME / "venv" / "bin"
TREE = HOME / "tree"


class Stop(Exception):
    """Nothing more can be done. The arguments: what is wrong, then how to go on."""


def say(line):
    """Print a line beside, not into, the output that a command is run for."""
    print(line, file=sys.stderr, flush=True)


def chapters():
    """Return the folder names of the chapters by their stems, in order."""
    folders = sorted(ROOT.glob("chapters/[0-9][0-9]_*"))
    return {path.name[3:]: path.name for path in folders}


def variables(tree=None):
    """Return the environment of our programs; with tree, chapters import from it."""
    env = dict(os.environ, VIRTUAL_ENV=str(HOME / "venv"))
    env["PATH"] = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"):
        env.pop(name, None)  # meant for another Python
    if tree:
        folders = [str(tree / "chapters" / name) for name in chapters().values()]
        env["PYTHONPATH"] = os.pathsep.join(folders)
    return env


def run(*command, shown=()):
    """Run command; return its status and lines, echo lines that begin as in shown."""
    lines = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        for line in child.stdout:
            lines.append(line.rstrip())
            if line.strip().startswith(tuple(shown)):
                say("    " + line.strip()[:76])
    return child.returncode, lines


def check_python():
    """Raise Stop unless this is a Python that the chapters are made for."""
    if os.name != "posix":
        raise Stop("The chapters need Linux or macOS.", "On Windows: wsl --install")
    kind = sys.implementation.name
    if sys.version_info >= (3, 11) and kind == "cpython":
        return
    mend = "Install one: https://www.python.org/downloads/"
    for name in [f"python3.{minor}" for minor in range(11, 30)]:
        # The stand-ins of a version manager can be found and yet refuse to run.
        if shutil.which(name) and not subprocess.call(
            [name, "-c", ""], stderr=subprocess.DEVNULL
        ):
            mend = " ".join(map(shlex.quote, [name, *sys.argv]))
    raise Stop(f"This is {kind} {VERSION}, but CPython 3.11 or newer is needed.", mend)


def check_tools():
    """Raise Stop unless Python can make environments and extensions compile."""
    if importlib.util.find_spec("ensurepip") is None:
        raise Stop("This Python cannot make environments: no ensurepip.", remedy())
    found = next(filter(shutil.which, ["cc", "gcc", "clang"]), "cc")
    compiler = shlex.split(os.environ.get("CC") or found)
    if not shutil.which(compiler[0]):
        raise Stop(f"There is no C compiler: no {compiler[0]}.", remedy(compiler=True))
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").exists():
        raise Stop(f"This Python has no C headers: no {headers}/Python.h.", remedy())
    # A compiler may be there without the headers of the C library.
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "probe.c").write_text("#include <Python.h>\n")
        compiler += ["-shared", "-fPIC", "-I", headers, "probe.c", "-o", "probe.so"]
        probe = subprocess.run(
            compiler, cwd=scratch, check=False, capture_output=True, text=True
        )
    if probe.returncode:
        lines = probe.stderr.splitlines()[:5]
        raise Stop("The C compiler does not work:", *lines, remedy(compiler=True))


def remedy(compiler=False):
    """Return how to get what a Python lacks to build extensions, or the compiler."""
    python = f"python3.{sys.version_info[1]}"
    if BASE == Path(os.path.realpath("/usr/bin/python3")):
        python = "python3"
    sudo = "" if os.geteuid() == 0 else "sudo "
    from_system = BASE.parent == Path("/usr/bin")
    if shutil.which("apt-get") and from_system:
        return f"{sudo}apt-get install {python}-venv {python}-dev gcc"
    if shutil.which("apt-get") and compiler:
        return f"{sudo}apt-get install gcc libc6-dev"
    if shutil.which("dnf") and (from_system or compiler):
        return f"{sudo}dnf install {python}-devel gcc"
    if sys.platform == "darwin" and compiler:
        return "xcode-select --install"
    if compiler:
        return "Install a C compiler and the headers of the C library."
    return "Install a Python that comes with ensurepip and Python.h."


def requirements(group):
    """Return the requirements of a dependency group of pyproject.toml, resolved."""
    import tomllib  # since 3.11, so not before check_python()

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))[
        "dependency-groups"
    ]
    found = []
    for item in groups[group]:
        nested = isinstance(item, dict)
        found += requirements(item["include-group"]) if nested else [item]
    return found


def make_environment():
    """Make the virtual environment, unless the one that is there is good."""
    # Written last: without it, the environment was interrupted half-made.
    stamp = HOME / "venv" / "stamp"
    wanted = "\n".join(requirements("dev"))
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    check_tools()
    say(f"Making a Python environment in build/{HOME.name} ...")
    if HOME.exists():
        shutil.rmtree(HOME)
    try:
        venv.create(BIN.parent, symlinks=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        lines = error.output.decode(errors="replace").splitlines()
        raise Stop("Python could not make an environment:", *lines[-3:]) from None
    pip = [BIN / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    # Without --prefer-binary, pip may choose to compile for minutes.
    pip += ["--prefer-binary", *wanted.splitlines()]
    shown = "Collecting", "Downloading", "Using cached", "Installing", "WARNING: Retry"
    status, lines = run(*pip, shown=shown)
    if status and any("Retrying (" in line for line in lines):
        what = "The first run needs the network, and pip could not reach it:"
        raise Stop(what, lines[-1], "Connect, then run the same command again.")
    if status:
        raise Stop("pip could not install what is needed:", *lines[-5:])
    stamp.write_text(wanted)


def build(tree, options):
    """Compile into tree, with meson's options, what has changed in the chapters."""
    stamp = tree / "stamp"
    wanted = repr([*options, *map(os.environ.get, ["CC", "CFLAGS", "LDFLAGS"])])
    if not stamp.is_file() or stamp.read_text() != wanted:
        say(f"Setting up build/{HOME.name}/{tree.name} ...")
        if tree.exists():
            shutil.rmtree(tree)
        status, lines = run(BIN / "meson", "setup", tree, "-Dwerror=true", *options)
        if status:
            raise Stop("meson could not set up the build:", *lines[-10:])
        stamp.write_text(wanted)
    status, lines = run(BIN / "ninja", "-C", tree, shown=["["])
    if status:
        raise Stop("The build failed:", *lines)


def prepare(tree=TREE, options=()):
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
        mend = f"cp -r {shlex.quote(str(ROOT))} ~   (a copy of your own)"
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            mend = f"rm {shlex.quote(str(HOME.parent))}   (it must be a folder)"
        what = f"Cannot write to {error.filename or HOME}: {error.strerror}."
        raise Stop(what, mend) from None


def tour():
    """Play the demo of each chapter; return 1 if one failed, else 0."""
    prepare()
    bold, plain = "\033[1m", "\033[0m"
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        bold = plain = ""
    failed = 0
    for name in chapters().values():
        demo = ROOT / "chapters" / name / "demo.py"
        source = demo.read_text("utf-8")
        tree = ast.parse(source)
        title, _, idea = ast.get_docstring(tree).partition("\n\n")
        code = "\n".join(source.splitlines()[tree.body[0].end_lineno :])
        print(f"\n{bold}{int(name[:2])}. {title}{plain}\n")
        print(textwrap.fill(idea, 80) + "\n")
        print(textwrap.indent(code.strip("\n"), "    "))
        print("\nIt prints:\n", flush=True)
        played = subprocess.run(
            [BIN / "python", demo],
            env=variables(TREE),
            stdin=subprocess.DEVNULL,
            check=False,
            capture_output=True,
            text=True,
        )
        print(textwrap.indent(played.stdout, "    "), flush=True)
        sys.stderr.write(played.stderr)
        if played.returncode:
            failed = 1
            say(f"{demo.relative_to(ROOT)} failed, exit status {played.returncode}.\n")
        print(f"Read on: book/{name}.md", flush=True)
    return failed


def count(results):
    """Return the numbers of passed and failed tests and a Counter of skip reasons.

    results are JUnit files by pytest. A missing or unfinished file is that of a
    run that crashed; it counts as one failure.
    """
    passed = failed = 0
    skipped = collections.Counter()
    for path in results:
        try:
            cases = list(xml.etree.ElementTree.parse(path).iter("testcase"))
        except (OSError, xml.etree.ElementTree.ParseError):
            print(f"crashed or timed out, no results: {path.stem}")
            failed += 1
            continue
        for case in cases:
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif skip is None:
                passed += 1
            elif skip.get("message") == "collection skipped":  # a whole file
                skipped[ast.literal_eval(skip.text)[2]] += 1
            else:
                skipped[skip.get("message")] += 1
    return passed, failed, skipped


def test(names, sanitize):
    """Run the tests of the chapters names, or all; return 1 if any failed, else 0."""
    tree, options = TREE, []
    if sanitize:
        tree = HOME / "tree-sanitize"
        options = ["-Db_sanitize=address,undefined", "-Db_lundef=false"]
    prepare(tree, options)
    stems = names or list(chapters())
    results = [tree / f"{stem}.xml" for stem in stems]
    house = []
    if not names and not sanitize:
        tests = sorted(ROOT.glob("tests/test_*.py"))
        house = [path for path in tests if path.stem[5:] not in chapters()]
        results += [HOME / "house.xml"] if house else []
    for path in results:
        path.unlink(missing_ok=True)
    # One at a time: only then does meson show pytest's lines as they come.
    meson = [BIN / "meson", "test", "-C", tree, "--no-rebuild", "-j1"]
    meson += [word for stem in stems for word in ("--suite", stem)]
    status = subprocess.call(meson, cwd=ROOT, env=variables())
    if house:
        pytest = [BIN / "python", "-m", "pytest", "--junitxml", results[-1], *house]
        ended = subprocess.call(pytest, cwd=ROOT, env=variables(TREE))
        # 5: no tests, for instance because -m in PYTEST_ADDOPTS left none.
        status = status or (ended if ended != 5 else 0)
    passed, failed, skipped = count(results)
    for reason, times in skipped.most_common():
        print(f"{times} skipped: {reason}")
    if status and not failed:
        print("A run failed although its tests did not: see above.")
    print(f"{passed} passed, {failed} failed, {sum(skipped.values())} skipped")
    return 1 if status or failed else 0


def become_python(*words):
    """Turn this process into a Python that can import the chapters."""
    prepare()
    os.execve(BIN / "python", [BIN / "python", *words], variables(TREE))


def main(command="--help", *words):
    """Run a command and return the exit status."""
    tools = {"weave": "weave.py", "break": "breaks.py", "take": "take.py"}
    sanitize = command == "test" and "--sanitize" in words
    names = [word for word in words if word != "--sanitize"] if sanitize else words
    if command in ("--help", "-h", "help"):
        print(__doc__.strip())
        return 0
    if command == "test" and not any(word.startswith("-") for word in names):
        stems = {folder: stem for stem, folder in chapters().items()}
        names = list(dict.fromkeys(stems.get(name, name) for name in names))
        for name in names:
            if name not in chapters():
                say(f"There is no chapter {name}. There are: {', '.join(chapters())}")
                return 2
        check_python()
        return test(names, sanitize)
    if command == "tour" and not words:
        check_python()
        return tour()
    if command == "python" or command in tools:
        check_python()
        script = [ROOT / "tools" / tools[command]] if command in tools else []
        become_python(*script, *words)
    say(__doc__.strip())
    return 2


if __name__ == "__main__":
    if os.name == "posix":
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except Stop as stop:
        sys.exit("\n    ".join(stop.args))
