"""Locks: the exact packages, with hashes, that an environment means; found once, then kept.

What an index serves changes every day. So the first run that uses an environment asks it, and the
answer is stored; every later run that shares the store takes the stored one.
"""

import platform
import re
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from upturn.core.errors import Corrupt, NotFound, Unavailable
from upturn.core.executor import InEnv
from upturn.core.memos import last_memo
from upturn.core.records import Memo
from upturn.core.time import utcnow
from upturn.develop.env import Env, here, name_of
from upturn.develop.uv import Job
from upturn.stores import values
from upturn.stores.workspace import Workspace

_PINNED = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?(?:==(?P<version>[^\s;\\]+)| @ (?P<url>\S+))",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Lock:
    """The packages of an environment on one platform: what an artifact of it holds."""

    python: str
    platform: str
    packages: dict[str, str]  # version by name
    text: str  # requirements with hashes


def lock_of(workspace: Workspace, env: Env, say: Callable[[str], None]) -> InEnv:
    """The environment with its lock, which is stored; found with uv when it is not known yet.

    Raises Unavailable, with uv's last words, when there are no packages that fit together, or the
    index can't be reached.
    """
    python = env.python or here()
    label = f"{', '.join(env.requirements)} (python {python})".strip()
    wanted = "\n".join((*env.requirements, python, _platform()))
    needs = _own_requirements()
    exact, alike = _memo(wanted, *needs), _memo(wanted)
    known = _known(workspace, exact)
    if known is not None:
        return InEnv(digest=known[0], label=label, python=python)
    say(f"resolving environment {label} …")
    before = _known(workspace, alike)  # of an Upturn that needed other packages
    text = _resolve(env, python, needs, before[1].text if before is not None else "", label, say)
    lock = Lock(python, _platform(), _packages(text), text)
    artifact = values.save(workspace.blobs, msgspec.to_builtins(lock))
    artifact = msgspec.structs.replace(
        artifact, type="environment", summary=f"{label}, {len(lock.packages)} packages"
    )
    memos = [
        Memo(memo=memo, output=artifact.digest, task=f"env/{label}", at=utcnow())
        for memo in (exact, alike)
    ]
    workspace.meta.put(artifact, *memos)
    return InEnv(digest=artifact.digest, label=label, python=python)


def load_lock(workspace: Workspace, digest: str) -> Lock:
    """The lock of that digest. Raises NotFound or Corrupt."""
    stored: dict[str, Any] = values.load(workspace.blobs, digest)
    return Lock(**stored)


def _memo(*parts: str) -> str:
    return blake3("\0".join(("environment", *parts)).encode()).hexdigest()


def _platform() -> str:
    libc = "-".join(platform.libc_ver()[:1])
    return f"{sysconfig.get_platform()}-{libc}".strip("-")


def _known(workspace: Workspace, memo: str) -> tuple[str, Lock] | None:
    found = last_memo(workspace.meta, memo, workspace.settings.project)
    if found is None or not workspace.blobs.has(found.output):  # asking keeps it from a gc
        return None
    try:
        return found.output, load_lock(workspace, found.output)
    except Corrupt:
        workspace.blobs.delete(found.output)
        return None
    except NotFound:
        return None


def _own_requirements() -> tuple[str, ...]:
    """What Upturn itself needs to run a worker."""
    try:
        declared = metadata.requires("upturn") or []
    except metadata.PackageNotFoundError:
        raise Unavailable(
            "Upturn runs from a folder here, and nothing says which packages it needs.",
            hint="Install it, also from that folder: pip install -e FOLDER",
        ) from None
    return tuple(sorted(text for text in declared if "extra ==" not in text))


def _resolve(
    env: Env,
    python: str,
    needs: tuple[str, ...],
    before: str,
    label: str,
    say: Callable[[str], None],
) -> str:
    with tempfile.TemporaryDirectory(prefix="upturn-env-") as folder:
        wanted, locked = Path(folder, "requirements.in"), Path(folder, "requirements.txt")
        wanted.write_text("".join(f"{line}\n" for line in (*env.requirements, *needs)))
        locked.write_text(before)
        job = Job(say)
        make_empty(job, python, Path(folder, "venv"))
        try:
            job.run(
                *("pip", "compile", "--quiet", "--python", Path(folder, "venv", "bin", "python")),
                *("--generate-hashes", "--no-header", "--no-annotate"),
                *("--no-emit-index-url", "--no-emit-find-links"),
                *("--output-file", locked, wanted),
            )
        except Unavailable as error:
            if error.hint:
                raise
            raise Unavailable(
                f"No packages were found for the environment {label}:\n{error.message}",
                hint="Change up.env(…), or try again when the package index can be reached."
                + _also_ours(env, needs),
            ) from None
        return locked.read_text()


def _also_ours(env: Env, needs: tuple[str, ...]) -> str:
    """A hint at the packages that both the step and Upturn ask for."""
    wanted = {name_of(requirement) for requirement in env.requirements}
    both = [need for need in needs if name_of(need) in wanted]
    return f" Upturn itself needs {', '.join(both)} there." if both else ""


def make_empty(job: Job, python: str, folder: Path, *, hold: int | None = None) -> None:
    """An environment without packages, of this Python when that fits; uv may have to fetch it.

    Raises Unavailable when there is none of that version.
    """
    fits = python in (here(), platform.python_version())
    try:
        job.run(
            *("venv", "--quiet", "--python", sys.executable if fits else python, folder), hold=hold
        )
    except Unavailable as error:
        if error.hint:
            raise
        raise Unavailable(
            f"There is no Python {python} here for an environment:\n{error.message}",
            hint=f"Install it, with: uv python install {python}",
        ) from None


def _packages(text: str) -> dict[str, str]:
    return {found["name"]: found["version"] or found["url"] for found in _PINNED.finditer(text)}
