"""A user's folder with flows in it, and the command line typed there, in real processes."""

import os
import subprocess
import sys
from pathlib import Path

from upturn.core.records import Run
from upturn.core.settings import load_settings
from upturn.stores.workspace import Workspace, open_workspace

DEADLINE_S = 60
COMMAND = [sys.executable, "-P", "-m", "upturn"]  # as the script `upturn`: without this folder


class Folder:
    """A user's folder with files, and a terminal in it."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for name, text in {"upturn.toml": 'project = "tested"\n', **files}.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.settings = load_settings(folder, {"UPTURN_CORES": "2"})

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("UPTURN_")}
        path = os.pathsep.join(part for part in sys.path if part)
        return {**kept, "PYTHONPATH": path, "UPTURN_CORES": "2", "NO_COLOR": "1", **more}

    def type(
        self, *words: str, cwd: Path | None = None, **more: str
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=cwd or self.folder,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert "Traceback" not in done.stderr or words[0] == "logs", done.stderr
        return done

    def start(
        self, *words: str, before: tuple[str, ...] = (), **more: str
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*before, *COMMAND, *words],
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def open(self) -> Workspace:
        return open_workspace(self.settings)

    def ran(self) -> list[str]:
        file = self.folder / "ran"
        return file.read_text().splitlines() if file.exists() else []

    def last_run(self, workspace: Workspace, flow: str) -> Run:
        (run,) = workspace.meta.select(Run, flow=flow, newest_first=True, limit=1)
        return run
