"""Make a deliberate mistake in a copy of a chapter, and see which test notices.

Run it: python3 run.py break CHAPTER [NAME]     (without NAME it lists them)

chapters/NN_CHAPTER/break/NAME.diff is a unified diff against the repository. Three
lines stand above it: "Mistake:" what it breaks, in one sentence; "Test:" the test
in tests/test_CHAPTER.py that must notice; "Shows:" how, one of HOW.
"""

import argparse
import contextlib
import io
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

import patch_ng

ROOT = Path(__file__).resolve().parent.parent
HOW = ("assertion", "crash", "time-out", "AddressSanitizer")
LIMITS = {"time-out": 5}  # seconds for one test; 60 for what should not hang
COMPILER = shlex.split(os.environ.get("CC", "cc"))


class Break(NamedTuple):
    """One mistake: where its diff is, and the three lines above the diff."""

    path: Path
    mistake: str
    test: str
    shows: str


def find_breaks(root: Path, chapter: str) -> dict[str, Break]:
    """Return the mistakes of `chapter`, by name.

    Raises ValueError for an unknown chapter and for a diff without its three lines.
    """
    folders = {path.name[3:]: path for path in sorted(root.glob("chapters/[0-9]*_*"))}
    if chapter not in folders:
        raise ValueError(f"no chapter {chapter!r}; there is: {', '.join(folders)}")
    breaks = {}
    for path in sorted(folders[chapter].glob("break/*.diff")):
        head = path.read_text(encoding="utf-8").partition("\n--- ")[0]
        fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        values = [fields.get(key, "").strip() for key in ("Mistake", "Test", "Shows")]
        if not all(values) or values[2] not in HOW:
            raise ValueError(
                f"{path.name} must begin with the lines Mistake:, Test: and Shows: "
                f"({' | '.join(HOW)})"
            )
        breaks[path.stem] = Break(path, *values)
    return breaks


def find_break(root: Path, chapter: str, name: str) -> Break:
    """Return one mistake. Raises ValueError that lists the others if it is unknown."""
    breaks = find_breaks(root, chapter)
    if name not in breaks:
        known = [f"\n  {name}: {found.mistake}" for name, found in breaks.items()]
        raise ValueError(
            f"{chapter} has no break {name!r}; it has{''.join(known) or ' none'}"
        )
    return breaks[name]


def apply_break(root: Path, chapter: str, name: str, dest: Path) -> Path:
    """Copy the sources and tests of `root` to `dest`, make the mistake, return `dest`.

    Raises ValueError if the diff is unknown, does not apply exactly (a hunk at
    another line does not), or changes nothing.
    """
    diff = find_break(root, chapter, name).path
    for part in ("chapters", "common", "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / part, dest / part, ignore=ignore, dirs_exist_ok=True)
    shutil.copy(root / "pyproject.toml", dest)  # pytest's configuration
    before = {path: path.read_bytes() for path in dest.rglob("*") if path.is_file()}
    reasons = io.StringIO()  # patch-ng tells them to its logger only
    handler = logging.StreamHandler(reasons)
    patch_ng.logger.addHandler(handler)
    try:
        patch = patch_ng.fromstring(diff.read_bytes())
        applied = patch and patch.apply(strip=1, root=str(dest))
    finally:
        patch_ng.logger.removeHandler(handler)
    if not applied:
        raise ValueError(
            f"{diff.name} does not apply to the sources as they are now; "
            f"make the diff again\n{reasons.getvalue()}".rstrip()
        )
    if all(path.read_bytes() == text for path, text in before.items()):
        raise ValueError(f"{diff.name} changes nothing")
    return dest


def build_break(dest: Path, chapter: str, sanitize: bool = False) -> Path:
    """Compile the chapter in `dest` and return the directory for PYTHONPATH.

    Raises RuntimeError with the compiler's output.
    """
    (source,) = dest.glob(f"chapters/[0-9]*_{chapter}/{chapter}.c")
    options = ["-shared", "-fPIC", "-pthread", "-g", "-std=c11", "-D_GNU_SOURCE"]
    if sys.platform == "darwin":
        options += ["-undefined", "dynamic_lookup"]
    if sanitize:
        options += ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    for folder in sysconfig.get_path("include"), dest / "common":
        options += ["-I", str(folder)]
    # One file, one command: an eighth of the time that meson takes to set up.
    command = [*COMPILER, *options, str(source), "-o", str(source.with_suffix(".so"))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{source.name} does not compile\n{done.stderr}")
    return source.parent


def sanitizer_environment() -> dict[str, str]:
    """Return the variables under which this Python runs a sanitized module.

    Raises RuntimeError if the compiler has no AddressSanitizer library.
    """
    command = [*COMPILER, "-print-file-name=libasan.so"]
    library = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(library):
        raise RuntimeError(f"{COMPILER[0]} has no libasan.so, which this break needs")
    variables = {
        "LD_PRELOAD": library,
        # Freed blocks are filled, as Python itself reads them without a check.
        "ASAN_OPTIONS": "detect_leaks=0:max_free_fill_size=512:free_fill_byte=221",
        "UBSAN_OPTIONS": "halt_on_error=1",
    }
    # Python's own allocator would hide our blocks; free-threaded has no other.
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        variables["PYTHONMALLOC"] = "malloc"
    return variables


def run_tests(dest: Path, chapter: str, shows: str, test: str = "") -> tuple[str, str]:
    """Build the copy in `dest` for what it `shows`; run one test of it, or all.

    Return how that ended (one of HOW, "pass", "skip", "unknown test" or "error") and
    what pytest printed. Raises RuntimeError if there is no building or sanitizing.
    """
    sanitize = shows == "AddressSanitizer"
    env = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    path = [str(build_break(dest, chapter, sanitize)), env.get("PYTHONPATH", "")]
    env["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    if sanitize:
        env |= sanitizer_environment()
    limit = LIMITS.get(shows, 60)
    # What a dying process has written would die in a capture of descriptors.
    options = "-x --tb=short --capture=sys -p no:cacheprovider"
    options += f" -o faulthandler_timeout={limit} -o faulthandler_exit_on_timeout=true"
    node = f"tests/test_{chapter}.py" + (f"::{test}" if test else "")
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *options.split(), node],
        cwd=dest,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit + 30 if test else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return "time-out", tidy(process.communicate()[0], dest)
        finally:  # with whatever the tests have left running
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return judge(process.returncode, output), tidy(output, dest)


def judge(status: int, output: str) -> str:
    """Return in one word how pytest ended; see run_tests()."""
    if "ERROR: AddressSanitizer" in output or ": runtime error: " in output:
        return "AddressSanitizer"
    if status < 0:
        return "crash"
    if re.search(r"Timeout \(.+\)!\n", output) and " short test summary " not in output:
        return "time-out"
    if status == 0:
        return "pass" if " passed" in output else "skip"
    if "ERROR: not found: " in output:
        return "unknown test"
    return "assertion" if status == 1 else "error"


def tidy(output: str, dest: Path) -> str:
    """Return `output` with paths as in the repository and without the frames that
    every stack here has at its far end: pytest's own, and from 20 on in C."""
    frame = r'  File "(.*site-packages.*|<frozen runpy>)", line .*\n|    #[2-9]\d .*\n'
    return re.sub(frame, "", output.replace(f"{dest}{os.sep}", ""))


def show_break(root: Path, chapter: str, name: str, dest: Path) -> int:
    """Make one mistake in `dest`, print what comes of it, and return 0 if it shows
    as its diff says, otherwise 1. Raises ValueError and RuntimeError as above."""
    found = find_break(root, chapter, name)
    print(found.path.read_text(encoding="utf-8"))
    print(f"Running {found.test} on a copy with this mistake.", flush=True)
    apply_break(root, chapter, name, dest)
    how, output = run_tests(dest, chapter, found.shows, found.test)
    print(output)
    if how == found.shows:
        print(f"{found.test} has noticed: {how}, as the diff says.")
        return 0
    if how in ("pass", "skip"):
        print("The rest of the chapter's tests:", flush=True)
        print(run_tests(dest, chapter, found.shows)[1])
    print(f"{found.test} has not noticed as it should: {how}, not {found.shows}.")
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Run one break, or list a chapter's, and return the exit status."""
    parser = argparse.ArgumentParser(prog="run.py break", description=__doc__)
    parser.add_argument("chapter")
    parser.add_argument("name", nargs="?")
    options = parser.parse_args(arguments)
    try:
        if options.name is None:
            for name, found in find_breaks(ROOT, options.chapter).items():
                print(f"{name}: {found.mistake}")
                print(f"    {found.shows} in {found.test}")
            return 0
        with tempfile.TemporaryDirectory() as folder:
            return show_break(ROOT, options.chapter, options.name, Path(folder))
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
