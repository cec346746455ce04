"""The locked requirements of a bundle: what the model needs, at the versions it was made with."""

import hashlib
import json
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from upturn.core.errors import Invalid, Unavailable
from upturn.core.records import Environment
from upturn.deploy.bundle.probe import Seen
from upturn.deploy.bundle.wheel import from_an_index, requirements, write_wheel

Uv = Callable[..., None]  # runs uv with the arguments given; raises Unavailable with its last words
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"\bextra *==")
_HEAD = "# What is served needs these packages, and no others. Made by: upturn build\n"


@dataclass(frozen=True, slots=True)
class Locked:
    """A requirements file, and what is to be said of it."""

    text: str
    python: str  # the minor version
    packages: tuple[str, ...]  # their names
    hashed: bool
    notes: tuple[str, ...] = ()


def lock(seen: Seen, made_with: Environment, folder: Path, *, uv: Uv | None) -> Locked:
    """The requirements of what was seen, at the versions that the model was made with.

    Upturn itself is among them: as a wheel, which is written into the folder, unless an index has
    it. With uv, all is locked with hashes for any platform; without it, or where it can't reach an
    index, the versions alone are. Raises Invalid for a package that no index has.
    """
    made = made_with.distributions
    later = {name: version for name, version in seen.later.items() if name in made}
    needed = {**later, **seen.distributions}
    needed.pop("upturn", None)
    needed = _released(needed)
    python = ".".join(made_with.python.split(".")[:2])
    pins = {name: made.get(name, version) for name, version in sorted(needed.items())}
    notes = _differences(pins, needed)
    if python != (here := ".".join(platform.python_version_tuple()[:2])):
        notes.append(
            f"The model was made with Python {python}, which the folder takes; it was tried with "
            f"{here}, which is here."
        )
    released = from_an_index()
    ours = [f"upturn=={released}"] if released else requirements()
    head = _HEAD + ("" if released else _line(write_wheel(folder)))
    text = why_not = ""
    if uv is not None:
        text, why_not = _compile([*ours, *_lines(pins)], python, uv, pins)
    if not text:
        text = "".join(f"{line}\n" for line in _lines(_closure(pins, ours)))
        reason = f" uv said: {why_not}" if why_not else " There is no uv here: pip install uv"
        notes.append(f"requirements.txt has versions and no hashes.{reason}")
        head = head.partition(" --hash")[0].rstrip() + "\n" if not released else head
    return Locked(
        text=head + text,
        python=python,
        packages=tuple(re.findall(r"^([a-z0-9][a-z0-9-]*)==", text, re.MULTILINE)),
        hashed="--hash=" in text,
        notes=tuple(notes),
    )


def _compile(wanted: list[str], python: str, uv: Uv, pins: Mapping[str, str]) -> tuple[str, str]:
    """What uv makes of the requirements, and else why it can't."""
    with tempfile.TemporaryDirectory(prefix="upturn-build-") as place:
        source, limits = Path(place, "requirements.in"), Path(place, "constraints.txt")
        target = Path(place, "requirements.txt")
        source.write_text("".join(f"{line}\n" for line in wanted))
        # What they need in turn, at the versions that are here: the next build is the same.
        limits.write_text("".join(f"{line}\n" for line in _lines({**_here(), **pins})))
        try:
            uv(
                *("pip", "compile", "--quiet", "--universal", "--python-version", python),
                *("--generate-hashes", "--no-header", "--no-annotate"),
                *("--no-emit-index-url", "--no-emit-find-links"),
                *("--constraint", limits, "--output-file", target, source),
            )
        except Unavailable as error:
            return "", str(error)
        return target.read_text(), ""


def _line(wheel: Path) -> str:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"./{wheel.name} --hash=sha256:{digest}\n"


def _lines(pins: Mapping[str, str]) -> list[str]:
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def _differences(pins: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    return [
        f"The model was made with {name} {version}, which the folder takes; it was tried with "
        f"{here[name]}, which is here."
        for name, version in pins.items()
        if version != here[name]
    ]


def _released(needed: Mapping[str, str]) -> dict[str, str]:
    """Those that an index has. Those installed as editable are left out: their modules are shipped
    as the user's own. Raises Invalid for one that was installed from a path or a repository.
    """
    found: dict[str, str] = {}
    for name, version in needed.items():
        origin = json.loads(metadata.distribution(name).read_text("direct_url.json") or "{}")
        if not origin:
            found[name] = version
        elif not origin.get("dir_info", {}).get("editable"):
            raise Invalid(
                f"The model needs {name!r}, which was installed from {origin['url']}: "
                "no index is known to have it.",
                hint="Install a release of it; or the folder that it is in, with pip install -e, "
                "so that its files are shipped.",
                package=name,
            )
    return found


def _closure(pins: Mapping[str, str], ours: Iterable[str]) -> dict[str, str]:
    """The pins, Upturn's own needs, and all that they need in turn, as they are installed here."""
    here = _here()
    found = dict(pins)
    waiting = [*pins, *(_name(text) for text in ours)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in here:
            continue  # what isn't here is for another platform
        seen.add(name)
        found.setdefault(name, here[name])
        declared = metadata.requires(name) or ()
        waiting += [_name(text) for text in declared if not _EXTRA.search(text)]
    return found


def _here() -> dict[str, str]:
    """The version of all that is installed, and that an index may have."""
    found = {
        _name(one.metadata["Name"]): one.version
        for one in metadata.distributions()
        if one.read_text("direct_url.json") is None
    }
    return {name: version for name, version in found.items() if name != "upturn"}


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower().rstrip("-") if found else ""
