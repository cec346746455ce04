"""`upturn logs -f`: lines as they are printed, here and from a server that is started anew."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

from contract.remote import serving
from e2e.serving import SRC, wait_for

FLOW = """
import time
from pathlib import Path

import upturn as up


@up.step
def first() -> int:
    print("first line")
    return 1


@up.step
def talk(go: str, before: int) -> None:
    for number in range(3):
        print("line", number, flush=True)
        while not Path(f"{go}.{number}").exists():
            time.sleep(0.02)
    raise ValueError("the end")


@up.flow
def talks(go: str):
    talk(go, first())
"""


class Follower:
    """A process that follows a run, and the lines that it has printed."""

    def __init__(self, folder: Path, environ: dict[str, str], *arguments: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "upturn.toml").touch()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "upturn", "logs", "-f", *arguments],
            cwd=folder,
            env={"UPTURN_HOME": str(folder / "home"), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with self.process:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                self._lines.put(line.rstrip("\n"))

    def line(self) -> str:
        return self._lines.get(timeout=20)

    def rest(self) -> list[str]:
        self.process.wait(timeout=60)
        found = [self.line()]
        while not found[-1].startswith("run "):
            found.append(self.line())
        return found


@contextlib.contextmanager
def ended(process: "subprocess.Popen[bytes]") -> Generator[None]:
    """End it with the block, however that ends."""
    try:
        yield
    finally:
        process.kill()


def test_lines_come_as_they_are_printed_over_a_restart_of_the_server(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if name[:7] != "UPTURN_"}
    clean |= {"PYTHONPATH": os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])}
    with serving(tmp_path / "server") as server:
        (server.home / "flows.py").write_text(FLOW)
        go = tmp_path / "go"
        here = clean | {"UPTURN_HOME": str(server.home)}
        with (
            subprocess.Popen(
                [sys.executable, "-m", "upturn", "run", "flows.py:talks", "--go", str(go)],
                cwd=server.home,
                env=here,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as driver,
            ended(driver),
        ):
            outputs = server.home / "output"
            wait_for(lambda: any(outputs.glob("*/talk/0.log")), "the task to begin", 60)
            (file,) = outputs.glob("*/talk/0.log")
            run = file.parts[-3]
            there = clean | {"UPTURN_SERVER": server.url}
            far = Follower(tmp_path / "far", there, run)
            one = Follower(tmp_path / "one", there, f"{run}/talk/0")
            near = Follower(tmp_path / "near", here, run)
            for follower in (far, near):
                assert sorted(follower.line() for _ in range(2)) == [
                    "first/0 │ first line",
                    "talk/0 │ line 0",
                ]
            assert one.line() == "line 0"
            server.end(signal.SIGKILL)
            Path(f"{go}.0").touch()
            assert near.line() == "talk/0 │ line 1"
            server.start()
            assert far.line() == "talk/0 │ line 1"
            assert one.line() == "line 1"
            for number in (1, 2):
                Path(f"{go}.{number}").touch()
            driver.wait(timeout=60)
            for follower in (far, near):
                rest = follower.rest()
                assert rest[0] == "talk/0 │ line 2"
                assert rest[-1] == f"run {run}  failed"
            assert one.rest()[0] == "line 2"
        assert any("ValueError: the end" in line for line in rest)
