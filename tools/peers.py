"""Build what others offer for making awaitables in C, to be timed beside ours.

Used by bench.py. The sources are chapters/NN_CHAPTER/peers/PEER_peer.pyx or .c; what
they need is the dependency group `peers`, in an environment of its own.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = {"Cython": "cython_peer.pyx", "PyAwaitable": "pyawaitable_peer.c"}
FLAGS = ["-shared", "-fPIC", "-pthread", "-O3", "-DNDEBUG"]


def run(*command):
    """Run a command and return what it printed. Raises RuntimeError if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if re.search("(?i)error", line)]
        raise RuntimeError((errors or lines or [f"{command[0]} failed"])[0].strip())
    return done.stdout.strip()


def install(peer, home):
    """Return the Python of the environment in `home`, with the package of `peer`.

    Raises RuntimeError if that is not to be had.
    """
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = groups["dependency-groups"]["peers"]
    wanted = [name for name in packages if name.startswith(peer.lower())]
    python = home / "bin" / "python"
    if not python.exists():
        run(sys._base_executable, "-m", "venv", home)
    run(python, "-m", "pip", "install", "--quiet", "--prefer-binary", *wanted)
    return python


def compile_peer(peer, folder, home):
    """Compile the source of `peer` in `folder`; return the path of its module.

    Raises RuntimeError if something is missing or does not compile.
    """
    source = folder / PEERS[peer]
    target = home / (source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
    python = install(peer, home)
    include = ["-I", sysconfig.get_path("include")]
    if source.suffix == ".pyx":
        generated = home / f"{source.stem}.c"
        run(python, "-m", "cython", "-3", source, "-o", generated)
        source = generated
    else:
        print_include = f"import {peer.lower()} as peer; print(peer.include())"
        include += ["-I", run(python, "-c", print_include)]
    compiler = shlex.split(os.environ.get("CC") or "cc")
    run(*compiler, *FLAGS, *include, source, "-o", target)
    return target


def load(path):
    """Import the module at `path`."""
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_peers(folder, home):
    """Build the peers whose sources are in `folder` with an environment in `home`.

    Return their modules by name, and by name why the others cannot be built.
    """
    built, failed = {}, {}
    for peer, source in PEERS.items():
        if not (folder / source).exists():
            continue
        try:
            built[peer] = load(compile_peer(peer, folder, home))
        except (RuntimeError, ImportError) as error:
            failed[peer] = str(error)
    return built, failed
