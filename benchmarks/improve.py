"""What judging costs, against floors in the same run: CPU seconds and peak memory.

    python benchmarks/improve.py [section ...] [--quick]

A section is a file beside this one, improve_NAME.py, which is a program of its own.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PREFIX = "improve_"
# What makes a section's run short.
QUICK = {
    "drift": ["--rows", "100000", "--many", "300000"],
    "experiment": ["--users", "500000"],
    "offpolicy": ["--rows", "500000"],
    "rehearsal": ["--until", "2013-06-01"],
    "report": ["--rows", "100000"],
}


def sections() -> list[str]:
    """The names of the sections that there are."""
    return sorted(path.stem.removeprefix(PREFIX) for path in HERE.glob(f"{PREFIX}*.py"))


def main() -> None:
    """Run the sections that are asked for, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", nargs="*", help=f"of {', '.join(sections())}")
    parser.add_argument("--quick", action="store_true", help="on a tenth of the rows or fewer")
    asked = parser.parse_args()
    if wrong := set(asked.section) - set(sections()):
        parser.error(f"no section {', '.join(sorted(wrong))}; there are {', '.join(sections())}")
    failed = False
    for name in asked.section or sections():
        print(f"== {name}", flush=True)
        options = QUICK.get(name, []) if asked.quick else []
        program = [sys.executable, str(HERE / f"{PREFIX}{name}.py"), *options]
        failed |= subprocess.run(program, check=False).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
