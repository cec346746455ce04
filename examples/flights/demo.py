"""The whole loop on a year of real flights: `make demo`, or `python demo.py --until 2013-05-31`.

Trains on January to March, deploys on a real port, and sends April to December in time order as
requests, with labels arriving as flights land, on a simulated clock. The loop decides every day.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.environ.setdefault("UPTURN_HOME", str(HERE / ".upturn"))
sys.path.insert(0, str(HERE))

START = date(2013, 4, 1)


def main() -> None:
    """Run the demo and print its report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--until", type=date.fromisoformat, default=date(2013, 12, 31))
    until: date = options.parse_args().until
    began = time.monotonic()
    os.chdir(HERE)
    home = Path(os.environ["UPTURN_HOME"])
    if home == HERE / ".upturn":
        shutil.rmtree(home, ignore_errors=True)  # the demo's own; it begins with an empty store

    say("Develop", "a flow trains on January to March and registers a version")
    upturn("run", "flights.py:delays", "--start", "2013-01-01", "--end", "2013-03-31")
    say("Deploy", "an endpoint serves it")
    upturn("deploy", "delays", "--unit", "tail_number", "--durable", "--port", "0", "--background")
    try:
        say("Improve", "the year goes by: requests in, labels back, a decision a day")
        from live import Year

        year = Year(START, until)
        year.live()
    finally:
        upturn("down", quiet=True)
    say("Rehearse", "the same policy on the same history, beside never and the calendar")
    from report import print_report

    print_report(year, seconds=lambda: time.monotonic() - began)


def say(word: str, what: str) -> None:
    """A heading between the parts."""
    print(
        f"\n\033[1m{word}\033[0m: {what}" if sys.stdout.isatty() else f"\n{word}: {what}",
        flush=True,
    )


def upturn(*arguments: str, quiet: bool = False) -> None:
    """Run one command line, as a person would."""
    if not quiet:
        print(f"$ upturn {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "upturn", *arguments]
    output = subprocess.DEVNULL if quiet else None
    done = subprocess.run(command, cwd=HERE, stdout=output, check=False)
    if done.returncode and not quiet:
        sys.exit(done.returncode)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped. The demo begins anew when it is run again.")
