"""demo.py: compile the thermometer and await it.

Run it: python3 run.py python examples/thermometer/demo.py
Taught in book/05_take_it_all_home.md.
"""

import asyncio
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
INCLUDES = [f"-I{sysconfig.get_path('include')}", f"-I{HERE.parents[1] / 'common'}"]


def build(folder):
    """Compile the module into `folder`."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    options = ["-shared", "-fPIC", "-pthread", "-std=c11", "-D_GNU_SOURCE", *INCLUDES]
    sources = [HERE / "thermometer.c", HERE / "therm.c"]
    module = Path(folder) / "thermometer.so"
    subprocess.run([*compiler, *options, *sources, "-o", module], check=True)


async def main():
    """Read some thermometers."""
    from thermometer import read

    print(await asyncio.gather(read(0), read(1)))
    for number in 2, 3:
        try:
            await read(number)
        except RuntimeError as error:
            print(number, error)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        build(folder)
        sys.path.insert(0, folder)
        asyncio.run(main())
