"""build: a folder that serves an endpoint on any machine, tried before it is handed over."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from upturn.core.errors import Invalid
from upturn.core.records import Run
from upturn.core.settings import MARKERS
from upturn.deploy.bundle.content import Content, content_of, label_of, write_store
from upturn.deploy.bundle.files import write_files, write_settings
from upturn.deploy.bundle.lock import Locked, Uv, lock
from upturn.deploy.bundle.own import place_of, root_of
from upturn.deploy.bundle.place import placed
from upturn.deploy.bundle.probe import Seen, probe
from upturn.stores.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Built:
    """A folder that was built, and what is to be said of it."""

    folder: Path
    content: Content
    label: str  # what containers and clusters call it
    code: tuple[str, ...]  # the user's own files in it
    model_bytes: int
    locked: Locked
    notes: tuple[str, ...]


def build(
    workspace: Workspace,
    name: str,
    folder: Path | None = None,
    *,
    uv: Uv | None = None,
    force: bool = False,
) -> Built:
    """Write a folder that serves endpoint `name`, or the one version that `name` refers to.

    It is `build/NAME` by default, and appears whole or not at all; one that was built before is
    replaced, what was written there since (the Log) stays. The models are loaded from the new
    folder, without the project, before it is in its place. `uv` locks the requirements.

    Raises NotFound for what there is not, Conflict for a folder that no build made unless `force`
    is set, Invalid when a model needs what can't be shipped, Unavailable when its files can't be
    written.
    """
    content = content_of(workspace, name)
    label = label_of(content.name)
    target = folder or Path("build", content.name)
    about = {
        "endpoint": content.name,
        "route": content.route.revision,
        "versions": [version.name for version in content.versions],
    }
    with placed(target, about, force=force, apart=workspace.settings.home) as fresh:
        write_settings(fresh, content)
        write_store(workspace, content, fresh / "model")
        seen = probe(fresh, *_paths(workspace, content))
        code = _ship(seen, fresh)
        locked = lock(seen, content.champion.environment, fresh, uv=uv)
        write_files(fresh, content, locked, seen.memory_bytes)
        blobs = [path for path in (fresh / "model" / "blobs").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in blobs)
    return Built(
        folder=target,
        content=content,
        label=label,
        code=code,
        model_bytes=size,
        locked=locked,
        notes=(*locked.notes, *_older(content, locked)),
    )


def _paths(workspace: Workspace, content: Content) -> list[Path]:
    """Where the user's own modules are found: in the project, and beside the flows that ran."""
    root = workspace.settings.root
    found = {root: None}
    for version in content.versions:
        run = workspace.meta.find(Run, version.run) if version.run is not None else None
        file = run.entry.rpartition(":")[0] if run is not None else ""
        if file.endswith(".py"):
            found[(root / file).parent] = None
    return list(found)


def _ship(seen: Seen, folder: Path) -> tuple[str, ...]:
    """Copy the user's own files that were seen, and see that the models load with these alone."""
    places = {file: place_of(name, file) for name, file in seen.modules.items()}
    roots = {root_of(name, file) for name, file in seen.modules.items()}
    for file in seen.files:
        root = max((one for one in roots if Path(file).is_relative_to(one)), key=_depth)
        places[file] = Path(file).relative_to(root)
        if places[file].name in MARKERS:
            raise Invalid(
                f"The model reads {file}, which would make its folder a project of its own.",
                hint="Read what it needs from a file of another name.",
            )
    if not places:
        return ()
    code = folder / "code"
    for file, place in sorted(places.items()):
        (code / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, code / place)
    again = probe(folder, code)
    inside = str(code.resolve()) + os.sep
    strays = [name for name, file in again.modules.items() if not file.startswith(inside)]
    if strays:
        raise Invalid(
            f"The model needs the module {strays[0]!r}, which can't be shipped: it is loaded from "
            f"{again.modules[strays[0]]} whatever lies in the folder.",
            hint="Import it by name, from a file in the project.",
        )
    shutil.rmtree(code / "__pycache__", ignore_errors=True)
    return tuple(sorted(place.as_posix() for place in places.values()))


def _depth(path: Path) -> int:
    return len(path.parts)


def _older(content: Content, locked: Locked) -> list[str]:
    """What the other versions were made with, where the folder has another version of it."""
    made = content.champion.environment.distributions
    return [
        f"{version.name} was made with {name} {other}; the folder has {made[name]}, as "
        f"{content.champion.name} was made with."
        for version in content.versions[1:]
        for name, other in version.environment.distributions.items()
        if name in locked.packages and made.get(name, other) != other
    ]
