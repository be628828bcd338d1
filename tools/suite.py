"""Run tests, and count what passed, failed and was skipped for which reason.

Run it: python3 run.py test [CHAPTER ...] [--sanitize]
"""

import ast
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from missing import ROOT, chapters


def count(results):
    """Return the numbers of passed and failed tests and a Counter of skip reasons.

    results are JUnit files by pytest. A missing or unfinished file is that of a
    run that crashed; it counts as one failure.
    """
    passed = failed = 0
    skipped = Counter()
    for path in results:
        try:
            cases = list(ElementTree.parse(path).iter("testcase"))
        except (OSError, ElementTree.ParseError):
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


def main(*words):
    """Run the tests of some chapters, or all tests; return 1 if any failed, else 0."""
    # Beside the environment that this Python belongs to: see run.py.
    name = "tree-sanitize" if "--sanitize" in words else "tree"
    tree = Path(sys.prefix).with_name(name)
    stems = [stem for stem in chapters() if stem in words] or [*chapters()]
    names = stems if words else [*stems, "house"]  # run.py, the tools and the book
    results = [tree / f"{name}.xml" for name in names]
    for path in results:
        path.unlink(missing_ok=True)
    # As many at a time as there are processors; each shows its lines at its end.
    meson = ["meson", "test", "-C", tree, "--no-rebuild"]
    if "SEQUENCES" in os.environ:  # as many as somebody has time for
        meson.append("--timeout-multiplier=0")
    meson += [f"--suite={stem}" for stem in stems]
    pytest = [sys.executable, "-m", "pytest", "--junitxml", results[-1], "tests"]
    pytest += [f"--ignore=tests/test_{stem}.py" for stem in stems]
    with tempfile.TemporaryFile() as shown:
        house = None if words else subprocess.Popen(pytest, cwd=ROOT, stdout=shown)
        status = subprocess.call(meson)
        if house is not None:
            status = house.wait() or status
            shown.seek(0)
            print(shown.read().decode(errors="replace"))
    passed, failed, skipped = count(results)
    for reason, times in skipped.most_common():
        print(f"{times} skipped: {reason}")
    if status and not failed:
        print("A run failed although its tests did not: see above.")
    print(f"{passed} passed, {failed} failed, {sum(skipped.values())} skipped")
    return 1 if status or failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
