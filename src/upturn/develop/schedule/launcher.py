"""Launcher: starts what a schedule holds as processes of their own, and sees how they ended."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from upturn.core.schedules import Schedule, Tick
from upturn.develop.schedule.start import Start
from upturn.stores.workspace import Workspace

_KEPT = 50  # files of output, of each schedule
_TAIL = 4000
_NOT_THEIRS = ("UPTURN_SERVER", "UPTURN_TOKEN")  # they work on this very store


@dataclass(slots=True)
class Child:
    """A process that was started for a tick."""

    schedule: Schedule
    tick: Tick
    late: bool
    process: subprocess.Popen[bytes]
    output: Path
    settled: bool = False  # its run is there, so nobody has to start it again


def launch(
    workspace: Workspace, schedule: Schedule, tick: Tick, start: Start, *, late: bool
) -> Child:
    """Start the process. Raises OSError, as when the folder is gone."""
    output = _output_file(workspace, schedule, tick)
    with output.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "upturn", *_words(schedule, start)],
            cwd=schedule.root,
            env=_environment(workspace),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives the server, and Ctrl-C is not meant for it
        )
    return Child(schedule, tick, late, process, output)


def why_ended(child: Child) -> str:
    """What the process said in the end, without what a run prints while it goes on."""
    try:
        with child.output.open("rb") as file:
            file.seek(max(0, child.output.stat().st_size - _TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    said = " ".join(line.strip() for line in lines[-3:] if line.strip())
    return said or f"It ended with status {child.process.returncode} and said nothing."


def output_dir(workspace: Workspace, schedule: str) -> Path:
    """Where what a schedule's processes print is kept."""
    return workspace.settings.home / "schedules" / schedule


def _words(schedule: Schedule, start: Start) -> list[str]:
    if schedule.runs == "flow":
        return ["run", "--start", start.encoded(), schedule.entry]
    return [schedule.runs, schedule.entry, "--once"]


def _environment(workspace: Workspace) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_THEIRS}
    return {**kept, "UPTURN_HOME": str(workspace.settings.home)}


def _output_file(workspace: Workspace, schedule: Schedule, tick: Tick) -> Path:
    folder = output_dir(workspace, schedule.name)
    folder.mkdir(parents=True, exist_ok=True)
    older = sorted(folder.glob("*.log"), key=_written)
    for file in older[: -_KEPT + 1]:
        file.unlink(missing_ok=True)
    return folder / f"{tick.run or stamp(tick.at)}.log"


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def stamp(at: datetime) -> str:
    """An instant as the name of a file."""
    return at.strftime("%Y%m%dT%H%M%S")
