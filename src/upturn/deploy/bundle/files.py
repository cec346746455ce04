"""The files around a model: what an image, a cluster and a reader need, from templates."""

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import msgspec

from upturn.deploy.bundle.content import Content, label_of
from upturn.deploy.bundle.lock import Locked
from upturn.deploy.example import example_request
from upturn.deploy.route import describe_arms

_KNOWN = """Put them into the store that the endpoint was
built from, and `upturn monitor` and `upturn feedback` see them"""
_UNKNOWN = """The store that the version was built
from has no endpoint of that name: the files are Parquet, for whatever reads that"""
_NAMES = {"dockerignore": ".dockerignore"}
_MIB = 1024 * 1024
_BESIDE_MIB = 96  # what the server holds beside the models: a second process, queues, the Log
_STEP_MIB = 64  # so that two builds, of which no two measure the same, mostly say the same
# Libraries of the system that the slim image lacks, and that wheels expect nevertheless.
_SYSTEM = {"lightgbm": "libgomp1"}
_APT = """
RUN apt-get update \\
    && apt-get install -y --no-install-recommends {} \\
    && rm -rf /var/lib/apt/lists/*
"""


def write_settings(folder: Path, content: Content) -> None:
    """Write what tells a server that this folder holds what it is to serve."""
    template = files("upturn.deploy.bundle") / "templates" / "upturn.toml"
    (folder / "upturn.toml").write_text(_filled(template, {"name": label_of(content.name)}))


def write_files(folder: Path, content: Content, locked: Locked, memory_bytes: int) -> None:
    """Write requirements, Dockerfile, manifests, a request that fits, and what to do with them."""
    (folder / "requirements.txt").write_text(locked.text)
    signature = content.champion.signature
    body = msgspec.json.encode(example_request(signature, content.endpoint.unit))
    text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    (folder / "request.json").write_text(text + "\n", encoding="utf-8")
    values = _values(content, locked, memory_bytes)
    for template in _templates(files("upturn.deploy.bundle") / "templates"):
        path = folder / _NAMES.get(template.name, template.name)
        if template.name.endswith(".yaml"):
            path = folder / "kubernetes" / template.name
        path.parent.mkdir(exist_ok=True)
        path.write_text(_filled(template, values))


def _values(content: Content, locked: Locked, memory_bytes: int) -> dict[str, str]:
    system = sorted({_SYSTEM[name] for name in locked.packages if name in _SYSTEM})
    asked = -(-(memory_bytes // _MIB + _BESIDE_MIB) // _STEP_MIB) * _STEP_MIB
    return {
        "name": label_of(content.name),
        "endpoint": content.name,
        "tag": content.tag,
        "versions": ", ".join(version.name for version in content.versions),
        "arms": f"{content.route.model} with {describe_arms(content.route.arms)}",
        "whose": _UNKNOWN if content.alone else _KNOWN,
        "python": locked.python,
        "hashes": "--require-hashes " if locked.hashed else "",
        "system": _APT.format(" ".join(system)) if system else "",
        "memory_request": f"{asked}Mi",
        "memory_limit": f"{2 * asked}Mi",
    }


def _templates(folder: Traversable) -> list[Traversable]:
    found: list[Traversable] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _templates(entry)
        elif entry.name != "upturn.toml":
            found.append(entry)
    return found


def _filled(template: Traversable, values: dict[str, str]) -> str:
    return Template(template.read_text("utf-8")).substitute(values)
