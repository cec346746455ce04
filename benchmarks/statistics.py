"""What Upturn's statistics claim, simulated: false finds, coverage, and what they cost.

    python benchmarks/statistics.py [section ...] [--quick]

A section is a file beside this one: statistics_NAME.py with `run(*, quick: bool)`, which prints.
Its first line says what it measures. Without names, all of them run.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import time
from pathlib import Path

HERE = Path(__file__).parent
PREFIX = "statistics_"


def pythons_own() -> None:
    """Put Python's module `statistics` in this file's place: scripts beside it ask for that one."""
    path = Path(sysconfig.get_path("stdlib"), "statistics.py")
    spec = importlib.util.spec_from_file_location("statistics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["statistics"] = module
    spec.loader.exec_module(module)


def sections() -> list[str]:
    """The names of the sections that there are."""
    return sorted(path.stem.removeprefix(PREFIX) for path in HERE.glob(f"{PREFIX}*.py"))


def main() -> None:
    """Run the sections that are asked for, or all."""
    import argparse

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", nargs="*", help=f"of {', '.join(sections())}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs or fewer")
    asked = parser.parse_args()
    if wrong := set(asked.section) - set(sections()):
        parser.error(f"no section {', '.join(sorted(wrong))}; there are {', '.join(sections())}")
    for name in asked.section or sections():
        module = importlib.import_module(PREFIX + name)
        title = (module.__doc__ or name).strip().splitlines()[0]
        print(f"== {name}: {title}")
        begun = time.process_time()
        module.run(quick=asked.quick)
        print(f"   ({time.process_time() - begun:.0f} CPU s)\n", flush=True)


if __name__ == "__main__":
    main()
else:
    pythons_own()
